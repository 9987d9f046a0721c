package embedded

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// Environment variables that choose the library and where it is kept.
const (
	LibraryEnv  = "AIONE_CHDB_LIB"  // path of libchdb.so itself
	CacheDirEnv = "AIONE_CACHE_DIR" // default: aione in the user's cache directory
)

// ErrNoLibrary is returned when the ClickHouse library is not on this machine.
var ErrNoLibrary = errors.New("the ClickHouse engine is not installed: run `make engine` or `aione engine install`")

// The lock file pins one version for Linux and macOS on x64 and arm64; npm takes
// the one for this machine. For Linux on x64 it carries the integrity hash, and npm
// refuses anything else; the others could not be fetched to be hashed, and are
// checked against the registry's own hash only.
var (
	//go:embed engine/package.json
	enginePackage []byte
	//go:embed engine/package-lock.json
	engineLock []byte
)

// FindLibrary returns the path of the ClickHouse library: what LibraryEnv names,
// else the cached one. It returns ErrNoLibrary if there is none.
func FindLibrary() (string, error) {
	if path := os.Getenv(LibraryEnv); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("%w (%s names %s: %w)", ErrNoLibrary, LibraryEnv, path, err)
		}
		return path, nil
	}
	dir, err := engineDir()
	if err != nil {
		return "", err
	}
	path, err := libraryIn(dir)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w (not found: %s)", ErrNoLibrary, path)
	}
	return path, nil
}

// InstallLibrary fetches the pinned library with npm into the cache and returns
// its path. It does nothing if the library is there. Concurrent installs are
// safe: one works, the others wait for it. npm's own output goes to progress.
func InstallLibrary(ctx context.Context, progress io.Writer) (string, error) {
	dir, err := engineDir()
	if err != nil {
		return "", err
	}
	path, err := libraryIn(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", dirError("the engine cache", filepath.Dir(dir), err)
	}
	unlock, err := waitForLock(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := installInto(ctx, dir, progress); err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("npm has no ClickHouse engine for %s/%s: set %s to a libchdb.so, or CLICKHOUSE_DSN to a server: %w", runtime.GOOS, runtime.GOARCH, LibraryEnv, err)
	}
	return path, nil
}

func installInto(ctx context.Context, dir string, progress io.Writer) error {
	fresh, err := os.MkdirTemp(filepath.Dir(dir), ".engine-*")
	if err != nil {
		return dirError("the engine cache", filepath.Dir(dir), err)
	}
	defer os.RemoveAll(fresh)
	for name, content := range map[string][]byte{"package.json": enginePackage, "package-lock.json": engineLock} {
		if err := os.WriteFile(filepath.Join(fresh, name), content, 0o644); err != nil {
			return dirError("the engine cache", fresh, err)
		}
	}
	npm := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund")
	npm.Dir, npm.Stdout, npm.Stderr = fresh, progress, progress
	// npm starts children of its own; they must not outlive a cancelled install.
	npm.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	npm.Cancel = func() error { return syscall.Kill(-npm.Process.Pid, syscall.SIGKILL) }
	npm.WaitDelay = 5 * time.Second
	if err := npm.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return fmt.Errorf("install the ClickHouse engine: npm is not on the PATH; install Node.js, or point %s at a libchdb.so", LibraryEnv)
		}
		return fmt.Errorf("install the ClickHouse engine with npm ci: %w", err)
	}
	if err := os.Chmod(fresh, 0o755); err != nil {
		return fmt.Errorf("open the engine cache to other users: %w", err)
	}
	// A directory without the library is a broken install: it gives way.
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("replace the broken engine cache: %w", err)
	}
	if err := os.Rename(fresh, dir); err != nil {
		return fmt.Errorf("put the ClickHouse engine in place: %w", err)
	}
	return nil
}

// waitForLock takes a flock on path, waiting while another install works.
func waitForLock(ctx context.Context, path string) (func(), error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, dirError("the engine cache", filepath.Dir(path), err)
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			file.Close()
			return nil, fmt.Errorf("lock the engine cache: %w", err)
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, fmt.Errorf("wait for another engine install: %w", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func engineDir() (string, error) {
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
	version, err := engineVersion()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "engine-"+version), nil
}

// engineVersion is the pinned version, which package.json carries as its own.
func engineVersion() (string, error) {
	var pinned struct{ Version string }
	if err := json.Unmarshal(enginePackage, &pinned); err != nil {
		return "", fmt.Errorf("read the embedded engine package: %w", err)
	}
	return pinned.Version, nil
}

func libraryIn(dir string) (string, error) {
	platform, ok := map[string]string{
		"linux/amd64":  "lib-linux-x64-gnu",
		"linux/arm64":  "lib-linux-arm64-gnu",
		"darwin/amd64": "lib-darwin-x64",
		"darwin/arm64": "lib-darwin-arm64",
	}[runtime.GOOS+"/"+runtime.GOARCH]
	if !ok {
		return "", fmt.Errorf("no ClickHouse engine is built for %s/%s: set CLICKHOUSE_DSN to a server", runtime.GOOS, runtime.GOARCH)
	}
	return filepath.Join(dir, "node_modules", "@chdb", platform, "libchdb.so"), nil
}
