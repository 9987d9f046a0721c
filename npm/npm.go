// Package npm installs pinned npm packages into a cache outside the checkout.
//
// Invariants: a lock file pins what is installed, and npm refuses anything else; an
// install is there whole or not at all; concurrent installs, in other processes
// too, are one. The package never asks npm for a version that is not pinned, and
// never writes where the caller's own files are.
package npm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// CacheDirEnv names the cache; default: aione in the user's cache directory.
const CacheDirEnv = "AIONE_CACHE_DIR"

// ErrNoNPM is returned when there is no npm to install with.
var ErrNoNPM = errors.New("npm is not on the PATH: install Node.js")

// Install is what is installed together.
type Install struct {
	What     string // for errors: "the ClickHouse engine"
	Name     string // of its directory in the cache, with the version
	Manifest []byte // package.json
	Lock     []byte // package-lock.json
	Witness  string // below the directory; without it an install is broken
}

// Dir is where it is, or would be.
func (i Install) Dir() (string, error) {
	cache := os.Getenv(CacheDirEnv)
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the cache directory (set %s): %w", CacheDirEnv, err)
		}
		cache = filepath.Join(user, "aione")
	}
	cache, err := filepath.Abs(cache)
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w", err)
	}
	return filepath.Join(cache, i.Name), nil
}

// Ensure installs it unless it is there. Of concurrent calls one works, the others
// wait for it. npm's own output goes to progress. Without the witness in what npm
// installed the error is fs.ErrNotExist.
func (i Install) Ensure(ctx context.Context, progress io.Writer) error {
	dir, err := i.Dir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("make the cache of %s: %w", i.What, err)
	}
	unlock, err := waitForLock(ctx, dir+".lock")
	if err != nil {
		return fmt.Errorf("wait for another install of %s: %w", i.What, err)
	}
	defer unlock()
	witness := filepath.Join(dir, i.Witness)
	if _, err := os.Stat(witness); err == nil {
		return nil
	}
	if err := i.into(ctx, dir, progress); err != nil {
		return fmt.Errorf("install %s: %w", i.What, err)
	}
	_, err = os.Stat(witness)
	return err
}

func (i Install) into(ctx context.Context, dir string, progress io.Writer) error {
	fresh, err := os.MkdirTemp(filepath.Dir(dir), ".install-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	for name, content := range map[string][]byte{"package.json": i.Manifest, "package-lock.json": i.Lock} {
		if err := os.WriteFile(filepath.Join(fresh, name), content, 0o644); err != nil {
			return err
		}
	}
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir, npm.Stdout, npm.Stderr = fresh, progress, progress
	// npm starts children of its own; they must not outlive a cancelled install.
	npm.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	npm.Cancel = func() error { return syscall.Kill(-npm.Process.Pid, syscall.SIGKILL) }
	npm.WaitDelay = 5 * time.Second
	if err := npm.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return ErrNoNPM
		}
		return fmt.Errorf("npm ci: %w", err)
	}
	if err := os.Chmod(fresh, 0o755); err != nil {
		return fmt.Errorf("open the cache to other users: %w", err)
	}
	// A directory without the witness is a broken install: it gives way.
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("replace a broken install: %w", err)
	}
	return os.Rename(fresh, dir)
}

// waitForLock takes a flock on path, waiting while another process has it.
func waitForLock(ctx context.Context, path string) (func(), error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
