package node

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"aione/keys"
)

// pepperBytes is the size of a pepper made here.
const pepperBytes = 32

// loadPeppers reads the peppers of the keys' hashes, or makes one at the first
// start. Losing one makes the keys under it unusable; none is ever in the log.
func loadPeppers(text, dataDir string) ([]keys.Pepper, error) {
	if text == "" {
		file := filepath.Join(dataDir, "pepper")
		body, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			if body, err = makePepper(file); err != nil {
				return nil, err
			}
		} else if err != nil {
			return nil, fmt.Errorf("read the pepper: %w", err)
		}
		text = string(body)
	}
	return parsePeppers(text)
}

// parsePeppers reads BASE64, which is version 1, or VERSION:BASE64, several of them
// with commas or white space between. No error shows any of it.
func parsePeppers(text string) ([]keys.Pepper, error) {
	var peppers []keys.Pepper
	for i, one := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\r' || r == '\n' }) {
		p := keys.Pepper{Version: 1}
		if version, rest, ok := strings.Cut(one, ":"); ok {
			n, err := strconv.ParseInt(version, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("pepper number %d of the list: what is before the colon is no version", i+1)
			}
			p.Version, one = int(n), rest
		}
		var err error
		if p.Secret, err = base64.StdEncoding.DecodeString(one); err != nil {
			return nil, fmt.Errorf("pepper %d is not base64", p.Version)
		}
		peppers = append(peppers, p)
	}
	if len(peppers) == 0 {
		return nil, errors.New("the pepper is empty")
	}
	return peppers, nil
}

// makePepper writes a new pepper unless another process has done so meanwhile.
func makePepper(file string) ([]byte, error) {
	secret := make([]byte, pepperBytes)
	if _, err := rand.Read(secret); err != nil {
		return nil, fmt.Errorf("make a pepper: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(file), "pepper.*")
	if err != nil {
		return nil, fmt.Errorf("make a pepper: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintln(f, base64.StdEncoding.EncodeToString(secret))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("make a pepper: %w", err)
	}
	if err := os.Link(f.Name(), file); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make a pepper: %w", err)
	}
	return os.ReadFile(file)
}
