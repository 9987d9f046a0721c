package npm_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"aione/npm"
)

// Installs as such are tested where they are used, with package embedded's.

func TestWithoutNPM(t *testing.T) {
	t.Setenv(npm.CacheDirEnv, t.TempDir())
	t.Setenv("PATH", t.TempDir())
	if err := (npm.Install{What: "nothing", Name: "nothing-1"}).Ensure(t.Context(), t.Output()); !errors.Is(err, npm.ErrNoNPM) {
		t.Errorf("got %v", err)
	}
}

// TestWithoutWitness: npm succeeded, but what was to be there is not.
func TestWithoutWitness(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "npm"), []byte("#!/bin/sh\n[ \"$1\" = ci ] && [ \"$2\" = --ignore-scripts ]\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv(npm.CacheDirEnv, t.TempDir())
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	i := npm.Install{What: "nothing", Name: "nothing-1", Manifest: []byte("{}"), Lock: []byte("{}"), Witness: "node_modules/gone"}
	if err := i.Ensure(t.Context(), t.Output()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	i.Witness = "package.json"
	if err := i.Ensure(t.Context(), t.Output()); err != nil {
		t.Error(err)
	}
}
