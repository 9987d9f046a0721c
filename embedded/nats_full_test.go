package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"aione/embedded"
)

// fullDiskEnv makes this binary a second process that runs into the end of its
// disk: the limit is one of the process.
const fullDiskEnv = "AIONE_TEST_FULL_DISK_DIR"

// A disk that is full for a while: the server says so in a sentence, keeps what it
// has acknowledged, and goes on by itself once there is room. A limit on the size
// of files stands for the disk: it can be had on every machine, and lifted.
func TestNATSOnAFullDisk(t *testing.T) {
	t.Parallel()
	process := exec.CommandContext(t.Context(), os.Args[0])
	process.Env = append(os.Environ(), fullDiskEnv+"="+t.TempDir())
	if said, err := process.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
}

func runOnFullDisk(dir string) int {
	signal.Ignore(syscall.SIGXFSZ)
	if err := fillAndFree(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func fillAndFree(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var log bytes.Buffer
	n, err := embedded.StartNATS(embedded.NATSOptions{StoreDir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		return err
	}
	nc, err := n.Conn(nats.ReconnectWait(10 * time.Millisecond))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Storage: jetstream.FileStorage}); err != nil {
		return err
	}
	kept := uint64(0)
	publish := func(within time.Duration) error {
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		_, err := js.Publish(ctx, "s.x", make([]byte, 100<<10))
		if err == nil {
			kept++
		}
		return err
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	full := limit
	full.Cur = 1 << 20
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full); err != nil {
		return err
	}
	for err = nil; err == nil; err = n.Check() { // fails when a message has
		if publish(100 * time.Millisecond); kept > 100 || ctx.Err() != nil {
			return fmt.Errorf("the check of a disk that takes %d messages of a tenth of its size says nothing", kept)
		}
	}
	if !strings.Contains(err.Error(), "NATS cannot write to ") || strings.Contains(err.Error(), "\n") {
		return fmt.Errorf("the check of a server that cannot write says %w", err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	for err = publish(time.Second); err != nil; err = publish(time.Second) {
		if ctx.Err() != nil {
			return fmt.Errorf("there is room, and no message is taken: %w", err)
		}
	}
	if err := n.Check(); err != nil {
		return fmt.Errorf("there is room, and the check says %w", err)
	}
	s, err := js.Stream(ctx, "S")
	if err != nil {
		return err
	}
	// A message that was not confirmed may be there all the same.
	if got := s.CachedInfo().State.Msgs; got < kept || got > kept+2 {
		return fmt.Errorf("%d messages, %d were acknowledged", got, kept)
	}
	n.Close()
	if !strings.Contains(log.String(), "make room") || !strings.Contains(log.String(), "started again") {
		return errors.New("its log does not say so: " + log.String())
	}
	return nil
}
