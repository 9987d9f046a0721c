package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrHeld is returned when another process runs on the directory.
var ErrHeld = errors.New("the directory is in use by another process")

// lockName is ours alone: neither engine reads or writes it.
const lockName = "aione.lock"

// orphanWaitMax is how long to wait for the engine of a dead process to go. It
// was sent SIGKILL when its parent died, so this is only its unmapping.
const orphanWaitMax = 10 * time.Second

// dirLock is an exclusive flock on a file in the directory. It belongs to the
// open file, so a child that inherits the file holds the directory as well.
type dirLock struct{ file *os.File }

// lockDir makes dir if needed and takes it, or returns ErrHeld. what names the
// user of the directory in errors.
func lockDir(dir, what string) (*dirLock, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, dirError(what, dir, err)
	}
	file, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, dirError(what, dir, err)
	}
	if err := takeLock(file); err != nil {
		holder := lockHolder(file)
		file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s cannot use %s: %w (%s); stop it or choose another directory", what, dir, ErrHeld, holder)
		}
		return nil, dirError(what, dir, err)
	}
	if err = file.Truncate(0); err == nil {
		_, err = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		file.Close()
		return nil, dirError(what, dir, err)
	}
	return &dirLock{file}, nil
}

// takeLock waits only when the process that took the lock is dead and its
// engine child still is on its way out.
func takeLock(file *os.File) error {
	for deadline := time.Now().Add(orphanWaitMax); ; time.Sleep(20 * time.Millisecond) {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		if holderAlive(file) || time.Now().After(deadline) {
			return err
		}
	}
}

func holderPID(file *os.File) int {
	text := make([]byte, 32)
	n, _ := file.ReadAt(text, 0)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	return pid
}

func holderAlive(file *os.File) bool {
	pid := holderPID(file)
	if pid <= 0 {
		return true
	}
	// A killed process that nobody has waited for yet still takes signals.
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err == nil && strings.Contains(string(stat), ") Z ") {
		return false
	}
	return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

func lockHolder(file *os.File) string {
	if pid := holderPID(file); pid > 0 {
		return fmt.Sprintf("process %d", pid)
	}
	return "process unknown"
}

func (l *dirLock) release() {
	// Closing releases the lock once the child's copy is closed too.
	l.file.Close()
}

// dirError turns what the file system said into one sentence.
func dirError(what, dir string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%s cannot use %s: the disk is full: %w", what, dir, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s cannot use %s: the directory is not writable: %w", what, dir, err)
	}
	return fmt.Errorf("%s cannot use %s: %w", what, dir, err)
}
