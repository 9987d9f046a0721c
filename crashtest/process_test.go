package crashtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is one running command.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdout *buffer
	stderr *buffer
	born   time.Time
	exited chan struct{}
	err    error // of Wait, after exited
}

// buffer keeps the end of what a process prints.
type buffer struct {
	mu  sync.Mutex
	all []byte
}

const bufferBytesMax = 256 << 10

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, p...)
	if len(b.all) > 2*bufferBytesMax {
		b.all = bytes.Clone(b.all[len(b.all)-bufferBytesMax:])
	}
	return len(p), nil
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.all)
}

// tail is the last lines.
func (b *buffer) tail(lines int) string {
	all := strings.Split(strings.TrimSpace(b.String()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// spawn has one thread for as long as the test binary lives: the kernel sends a
// child its death signal when the thread that started it ends.
var spawn = sync.OnceValue(func() chan func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// start runs a built command in a process group of its own.
func start(name string, env []string, args ...string) (*process, error) {
	p := &process{name: name, stdout: &buffer{}, stderr: &buffer{}, exited: make(chan struct{})}
	p.cmd = exec.Command(filepath.Join(binaries.dir, name), args...)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, p.stdout, p.stderr
	p.cmd.Dir = binaries.dir
	p.cmd.WaitDelay = 2 * time.Second
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	spawn() <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.born = time.Now()
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// signal sends a signal to this process, and to no other: os.Process knows when
// it is gone.
func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) } // gone already: nothing to do

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// wait returns the exit code, -1 for a death by signal.
func (p *process) wait(t testing.TB, within time.Duration) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(within):
		t.Fatalf("%s still runs after %s; its stderr ends:\n%s", p.name, within, p.stderr.tail(30))
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		t.Fatalf("%s: %v", p.name, p.err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// firstLine waits for the process to print a line.
func (p *process) firstLine(within time.Duration) (string, error) {
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if line, _, ok := strings.Cut(p.stdout.String(), "\n"); ok {
			return line, nil
		}
		if !p.running() {
			return "", fmt.Errorf("%s ended (%v): %s", p.name, p.err, p.stderr.tail(3))
		}
	}
	return "", fmt.Errorf("%s printed nothing within %s: %s", p.name, within, p.stderr.tail(3))
}

// childOf finds the one child of a process that calls itself name, 0 if none.
func childOf(parent int, name string) int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // gone meanwhile
		}
		// pid (comm) state ppid …; comm may hold anything, so look from its end on
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(parent) {
			continue
		}
		command, err := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		if err == nil && bytes.HasPrefix(command, []byte(name+"\x00")) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			return pid
		}
	}
	return 0
}

// death is an end that nobody asked for.
type death struct {
	process *process
	at      time.Time
}

// role keeps one process running, as a service manager does: whatever ends it, it
// is started again, until stop.
type role struct {
	name  string // of the command
	env   []string
	args  []string
	ready func(*process) error // waits until it serves; nil: at once

	mu      sync.Mutex
	current *process // nil while there is none that serves
	killed  map[*process]bool
	deaths  []death
	all     []*process
	ended   bool
	done    chan struct{}
}

func (r *role) run() {
	r.killed, r.done = map[*process]bool{}, make(chan struct{})
	go func() {
		defer close(r.done)
		for !r.isEnded() {
			p, err := start(r.name, r.env, r.args...)
			if err != nil {
				panic(err) // the binary is there; the machine is out of something
			}
			r.mu.Lock()
			r.all = append(r.all, p)
			ended := r.ended
			r.mu.Unlock()
			if ended {
				p.signal(syscall.SIGKILL)
			}
			if r.ready == nil || r.ready(p) == nil {
				r.set(p)
			}
			<-p.exited
			r.set(nil)
			r.mu.Lock()
			if !r.killed[p] && !r.ended {
				r.deaths = append(r.deaths, death{p, time.Now()})
			}
			r.mu.Unlock()
			time.Sleep(50 * time.Millisecond)
		}
	}()
}

func (r *role) isEnded() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended
}

func (r *role) set(p *process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = p
}

// process waits for one that serves.
func (r *role) process(within time.Duration) *process {
	for deadline := time.Now().Add(within); ; time.Sleep(5 * time.Millisecond) {
		r.mu.Lock()
		p := r.current
		r.mu.Unlock()
		if p != nil && p.running() || time.Now().After(deadline) {
			return p
		}
	}
}

// kill ends what runs now with SIGKILL; it is started again.
func (r *role) kill(p *process) {
	r.mu.Lock()
	r.killed[p] = true
	r.mu.Unlock()
	p.signal(syscall.SIGKILL)
	<-p.exited
}

// retire keeps the role from being started again and returns its last process.
func (r *role) retire() *process {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	if len(r.all) == 0 {
		return nil
	}
	return r.all[len(r.all)-1]
}

// stop ends the role for good and returns its last exit code.
func (r *role) stop(t testing.TB, s syscall.Signal, within time.Duration) int {
	t.Helper()
	last := r.retire()
	if last == nil {
		return 0
	}
	if s == syscall.SIGKILL {
		last.signal(syscall.SIGCONT) // it may be one that the test has stopped
	}
	last.signal(s)
	code := last.wait(t, within)
	<-r.done
	return code
}

// dump prints how the last processes of the role ended, for whoever reads a
// failed test.
func (r *role) dump(t testing.TB) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.all[max(0, len(r.all)-3):] {
		state := "running"
		if !p.running() {
			state = fmt.Sprint(p.err)
		}
		t.Logf("── %s, process %d, %s, its stderr ends:\n%s", r.name, p.pid(), state, p.stderr.tail(15))
	}
}
