package node

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aione/keys"
)

var (
	firstPepper  = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("one "), 8))
	secondPepper = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("two "), 8))
)

func TestParsePeppers(t *testing.T) {
	for text, want := range map[string][]int{
		firstPepper:        {1},
		"1:" + firstPepper: {1},
		"2:" + secondPepper + ",1:" + firstPepper:       {2, 1},
		"2:" + secondPepper + "\n" + firstPepper + "\n": {2, 1},
	} {
		got, err := parsePeppers(text)
		if err != nil || len(got) != len(want) {
			t.Errorf("%q: %v, %v", text, got, err)
			continue
		}
		for i, p := range got {
			if p.Version != want[i] || len(p.Secret) != 32 {
				t.Errorf("%q: pepper %d is version %d of %d bytes", text, i, p.Version, len(p.Secret))
			}
		}
	}
	for _, text := range []string{"", " \n", "not base64!", "x:" + firstPepper, ":" + firstPepper, "2:", "99999999999:" + firstPepper, "1:2:" + firstPepper} {
		if got, err := parsePeppers(text); err == nil && len(got[0].Secret) > 0 {
			t.Errorf("%q is read as %v", text, got)
		} else if err != nil && text != "" && strings.Contains(err.Error(), firstPepper) {
			t.Errorf("the error shows the pepper: %v", err)
		}
	}
}

// A pepper is replaced by putting one of a higher version beside it; a process that has
// another secret of the same version than the log's keys does not start.
func TestPepperIsReplaced(t *testing.T) {
	dir := t.TempDir()
	open := func(pepper string) (*Node, error) {
		return Open(t.Context(), Config{Engines: EngineConfig{DataDir: dir, Shards: 1, Replicas: 1}, Pepper: pepper})
	}
	opened := func(pepper string) *Node {
		t.Helper()
		n, err := open(pepper)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	n := opened(firstPepper)
	first, err := n.Bootstrap(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n.Close()

	if n, err := open(secondPepper); !errors.Is(err, keys.ErrOtherPepper) || !strings.Contains(err.Error(), "AIONE_PEPPER") {
		t.Errorf("another pepper: %v", err)
		n.Close()
	}
	if _, err := os.Stat(filepath.Join(dir, "pepper")); err == nil {
		t.Error("a pepper that was given has been written to a file")
	}

	n = opened("2:" + secondPepper + "," + firstPepper)
	old, err := n.Keys.Verify(first.ChatKey, time.Now())
	if err != nil {
		t.Fatalf("a key of the first pepper, beside the second: %v", err)
	}
	_, secret, err := n.Keys.Create(t.Context(), n.Log, keys.CreateInput{OrgID: old.OrgID, TeamID: old.TeamID, Name: "new", Actor: "test"})
	if err != nil {
		t.Fatal(err)
	}
	n.Close()

	n = opened("2:" + secondPepper) // the first is gone, and the keys under it
	defer n.Close()
	if _, err := n.Keys.Verify(first.ChatKey, time.Now()); !errors.Is(err, keys.ErrUnknownKey) {
		t.Errorf("a key of a pepper that is gone: %v", err)
	}
	if _, err := n.Keys.Verify(secret, time.Now()); err != nil {
		t.Errorf("a key of the second pepper alone: %v", err)
	}
}
