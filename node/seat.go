package node

import (
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
// lock with its process. It holds the names of the replicas that sat here and did not
// give back what they were allowed.
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

// Of those names only the last are kept: what earlier replicas were allowed has come
// back by itself by then.
const (
	seatNamesMax = 100
	seatBytesMax = 64 << 10
)

// sit adds the name of a replica to those that sat here, durably, before it takes
// anything.
func (s *seat) sit(name string) error { return s.write(append(s.before, name)) }

// leave frees the seat. A replica that gave everything back leaves no name; those
// that sat here before it may still have something.
func (s *seat) leave(gaveBack bool) error {
	var err error
	if gaveBack {
		err = s.write(s.before)
	}
	return errors.Join(err, s.file.Close())
}

func (s *seat) write(names []string) error {
	var body []byte
	for _, name := range names {
		body = append(append(body, name...), '\n')
	}
	_, err := s.file.WriteAt(body, 0)
	if err == nil {
		err = s.file.Truncate(int64(len(body)))
	}
	if err = errors.Join(err, s.file.Sync()); err != nil {
		return fmt.Errorf("write the seat: %w", err)
	}
	return nil
}
