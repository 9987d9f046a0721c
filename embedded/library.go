package embedded

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"aione/npm"
)

// Environment variables that choose the library and where it is kept.
const (
	LibraryEnv  = "AIONE_CHDB_LIB" // path of libchdb.so itself
	CacheDirEnv = npm.CacheDirEnv
)

// ErrNoLibrary is returned when the ClickHouse library is not on this machine.
var ErrNoLibrary = errors.New("the ClickHouse engine is not installed: run `make engine` or `aione engine install`")

// The lock file pins one version for Linux and macOS on x64 and arm64; npm takes
// the one for this machine. For Linux on x64 it carries the integrity hash, and npm
// refuses anything else; the others could not be fetched to be hashed, and are
// checked against the registry's own hash only.
var (
	//go:embed engine/package.json
	enginePackage []byte
	//go:embed engine/package-lock.json
	engineLock []byte
)

// FindLibrary returns the path of the ClickHouse library: what LibraryEnv names,
// else the cached one. It returns ErrNoLibrary if there is none.
func FindLibrary() (string, error) {
	if path := os.Getenv(LibraryEnv); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("%w (%s names %s: %w)", ErrNoLibrary, LibraryEnv, path, err)
		}
		return path, nil
	}
	install, err := engineInstall()
	if err != nil {
		return "", err
	}
	dir, err := install.Dir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, install.Witness)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w (not found: %s)", ErrNoLibrary, path)
	}
	return path, nil
}

// InstallLibrary fetches the pinned library with npm into the cache and returns
// its path. It does nothing if the library is there; concurrent installs are safe.
// npm's own output goes to progress.
func InstallLibrary(ctx context.Context, progress io.Writer) (string, error) {
	install, err := engineInstall()
	if err != nil {
		return "", err
	}
	dir, err := install.Dir()
	if err != nil {
		return "", err
	}
	err = install.Ensure(ctx, progress)
	switch {
	case errors.Is(err, npm.ErrNoNPM):
		return "", fmt.Errorf("%w, or point %s at a libchdb.so", err, LibraryEnv)
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("npm has no ClickHouse engine for %s/%s: set %s to a libchdb.so, or CLICKHOUSE_DSN to a server: %w", runtime.GOOS, runtime.GOARCH, LibraryEnv, err)
	case err != nil:
		return "", err
	}
	return filepath.Join(dir, install.Witness), nil
}

func engineInstall() (npm.Install, error) {
	version, err := engineVersion()
	if err != nil {
		return npm.Install{}, err
	}
	library, err := libraryBelow()
	return npm.Install{What: "the ClickHouse engine", Name: "engine-" + version, Manifest: enginePackage, Lock: engineLock, Witness: library}, err
}

// engineVersion is the pinned version, which package.json carries as its own.
func engineVersion() (string, error) {
	var pinned struct{ Version string }
	if err := json.Unmarshal(enginePackage, &pinned); err != nil {
		return "", fmt.Errorf("read the embedded engine package: %w", err)
	}
	return pinned.Version, nil
}

// libraryBelow is where npm puts the library of this platform.
func libraryBelow() (string, error) {
	platform, ok := map[string]string{
		"linux/amd64":  "lib-linux-x64-gnu",
		"linux/arm64":  "lib-linux-arm64-gnu",
		"darwin/amd64": "lib-darwin-x64",
		"darwin/arm64": "lib-darwin-arm64",
	}[runtime.GOOS+"/"+runtime.GOARCH]
	if !ok {
		return "", fmt.Errorf("no ClickHouse engine is built for %s/%s: set CLICKHOUSE_DSN to a server", runtime.GOOS, runtime.GOARCH)
	}
	return filepath.Join("node_modules", "@chdb", platform, "libchdb.so"), nil
}
