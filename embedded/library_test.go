package embedded_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"aione/embedded"
)

func TestMissingLibrary(t *testing.T) {
	t.Setenv(embedded.CacheDirEnv, t.TempDir())
	for name, path := range map[string]string{"NotCached": "", "NotWhereTheVariableSays": filepath.Join(t.TempDir(), "gone.so")} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(embedded.LibraryEnv, path)
			_, err := embedded.StartClickHouse(t.Context(), embedded.ClickHouseOptions{DataDir: t.TempDir()})
			if !errors.Is(err, embedded.ErrNoLibrary) || !strings.Contains(err.Error(), "make engine") || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// fakeNPM puts an npm on the PATH that makes the library and counts its runs.
func fakeNPM(t *testing.T, script string) (runs func() int) {
	t.Helper()
	bin, count := t.TempDir(), filepath.Join(t.TempDir(), "count")
	script = "#!/bin/sh\necho run >> " + count + "\n" + script
	if err := os.WriteFile(filepath.Join(bin, "npm"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv(embedded.LibraryEnv, "")
	t.Setenv(embedded.CacheDirEnv, t.TempDir())
	return func() int {
		text, err := os.ReadFile(count)
		if err != nil {
			return 0
		}
		return strings.Count(string(text), "run")
	}
}

func TestConcurrentInstalls(t *testing.T) {
	runs := fakeNPM(t, `[ "$1" = ci ] && grep -q sha512- package-lock.json || exit 1
grep -o '"node_modules/[^"]*"' package-lock.json | tr -d '"' | while read dir; do
	mkdir -p "$dir" && sleep 0.2 && echo engine > "$dir/libchdb.so"
done
`)
	var installs sync.WaitGroup
	for range 5 {
		installs.Go(func() {
			path, err := embedded.InstallLibrary(t.Context(), t.Output())
			if err != nil {
				t.Error(err)
				return
			}
			if content, err := os.ReadFile(path); err != nil || string(content) != "engine\n" {
				t.Errorf("%q, %v", content, err)
			}
		})
	}
	installs.Wait()
	if runs() != 1 {
		t.Errorf("npm ran %d times", runs())
	}
	if _, err := embedded.FindLibrary(); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(os.Getenv(embedded.CacheDirEnv), ".install-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestFailedInstallLeavesNothing(t *testing.T) {
	fakeNPM(t, "mkdir node_modules; exit 1\n")
	if _, err := embedded.InstallLibrary(t.Context(), t.Output()); err == nil || !strings.Contains(err.Error(), "npm ci") {
		t.Errorf("got %v", err)
	}
	if _, err := embedded.FindLibrary(); !errors.Is(err, embedded.ErrNoLibrary) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := embedded.InstallLibrary(ctx, t.Output()); err == nil {
		t.Error("a cancelled install succeeded")
	}
}
