package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// disk makes records durable as simply as can be: each is appended to a file, and
// those that wait at once share an fsync. Nothing that is durable before it is
// answered takes less.
type disk struct {
	file  *os.File
	in    chan chan error
	ended chan struct{}
}

const (
	diskRecordBytes = 512 // as a usage event and its place in the log
	diskQueue       = 4096
)

func openDisk(dir string) (*disk, error) {
	f, err := os.CreateTemp(dir, "aione-bench-disk-*")
	if err != nil {
		return nil, fmt.Errorf("open a file for durable records: %w", err)
	}
	d := &disk{file: f, in: make(chan chan error, diskQueue), ended: make(chan struct{})}
	go d.loop()
	return d, nil
}

func (d *disk) loop() {
	defer close(d.ended)
	for first := range d.in {
		waiting := []chan error{first}
		for len(d.in) > 0 {
			waiting = append(waiting, <-d.in)
		}
		_, err := d.file.Write(make([]byte, len(waiting)*diskRecordBytes))
		if err == nil {
			err = d.file.Sync()
		}
		for _, w := range waiting {
			w <- err
		}
	}
}

// call makes one record durable.
func (d *disk) call(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case d.in <- done:
		return <-done
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close removes the file. No call may be on its way.
func (d *disk) close() error {
	close(d.in)
	<-d.ended
	return errors.Join(d.file.Close(), os.Remove(d.file.Name()))
}
