package gateway

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// FileCheckpoint keeps the sweeper's position in a file, for one machine.
type FileCheckpoint struct{ Path string }

// Load returns 0 if there is no file yet.
func (c FileCheckpoint) Load(context.Context) (uint64, error) {
	b, err := os.ReadFile(c.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the checkpoint: %w", err)
	}
	next, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the checkpoint %s holds no sequence; remove it to sweep from the start: %w", c.Path, err)
	}
	return next, nil
}

// Save replaces the file as a whole. The rename is not synced: a position that a
// crash takes back costs work, never a charge.
func (c FileCheckpoint) Save(_ context.Context, next uint64) error {
	tmp, err := os.CreateTemp(filepath.Dir(c.Path), filepath.Base(c.Path)+".*")
	if err != nil {
		return fmt.Errorf("write the checkpoint: %w", err)
	}
	_, err = fmt.Fprintln(tmp, next)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		_ = os.Remove(tmp.Name()) // the write's error is the one that matters
		return fmt.Errorf("write the checkpoint: %w", err)
	}
	if err := os.Rename(tmp.Name(), c.Path); err != nil {
		return fmt.Errorf("replace the checkpoint: %w", err)
	}
	return nil
}
