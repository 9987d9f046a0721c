//go:build !linux

package embedded

import (
	"os"
	"syscall"
)

func childBinary() (string, error) { return os.Executable() }

// childProcess keeps a terminal's Ctrl-C from the child. There is no parent-death
// signal here: the end of the stdin pipe does its work.
func childProcess() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
