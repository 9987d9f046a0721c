package embedded

import "syscall"

// childBinary is this binary itself, even if its file was replaced or deleted
// since: a restart must not run another version.
func childBinary() (string, error) { return "/proc/self/exe", nil }

// childProcess ties the child's life to ours, and keeps a terminal's Ctrl-C from
// it: the parent decides when the engine stops.
func childProcess() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
