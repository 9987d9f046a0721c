package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// seat is a locked file in the data directory by which an API process knows that
// those that sat here before have ended, however they ended: the kernel frees a
// lock with its process. It holds the names of the replicas that sat here since the
// last one that left in order.
type seat struct {
	file   *os.File
	before []string // replicas that have ended for certain
}

// seatsMax bounds the API processes on one data directory.
const seatsMax = 1024

// takeSeat takes the first free seat.
func takeSeat(dataDir string) (*seat, error) {
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	for i := range seatsMax {
		f, err := os.OpenFile(filepath.Join(dataDir, fmt.Sprintf("replica-%d", i)), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("take a seat: %w", err)
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			continue
		}
		var names []byte
		if err == nil {
			names, err = io.ReadAll(io.LimitReader(f, seatBytesMax))
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("take a seat: %w", err)
		}
		before := strings.Fields(string(names))
		return &seat{file: f, before: before[max(0, len(before)-seatNamesMax):]}, nil
	}
	return nil, fmt.Errorf("take a seat: %d processes serve the API on %s", seatsMax, dataDir)
}

// Of those that died since the last one left in order only the last are kept: what
// earlier ones were allowed has come back by itself by then.
const (
	seatNamesMax = 100
	seatBytesMax = 64 << 10
)

// write puts the names of those that sit or sat here into the file, durably.
func (s *seat) write(names []string) error {
	body := []byte(strings.Join(names, "\n") + "\n")
	if len(names) == 0 {
		body = nil
	}
	_, err := s.file.Seek(0, io.SeekStart)
	if err == nil {
		_, err = io.Copy(s.file, bytes.NewReader(body))
	}
	if err == nil {
		err = s.file.Truncate(int64(len(body)))
	}
	if err = errors.Join(err, s.file.Sync()); err != nil {
		return fmt.Errorf("write the seat: %w", err)
	}
	return nil
}

// leave frees the seat. Whoever gave everything back leaves no name.
func (s *seat) leave() error {
	return errors.Join(s.write(nil), s.file.Close())
}
