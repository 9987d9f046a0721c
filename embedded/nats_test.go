package embedded_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"aione/embedded"
)

func stream(t *testing.T, n *embedded.NATS) (jetstream.JetStream, *nats.Conn) {
	t.Helper()
	conn, err := n.Conn()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	_, err = js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Storage: jetstream.FileStorage})
	if err != nil {
		t.Fatal(err)
	}
	return js, conn
}

func TestNATSRestartKeepsData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const messages = 100
	for round := range uint64(3) {
		n, err := embedded.StartNATS(embedded.NATSOptions{StoreDir: dir, Port: embedded.NATSPortNone})
		if err != nil {
			t.Fatal(err)
		}
		js, _ := stream(t, n)
		for range messages {
			if _, err := js.Publish(t.Context(), "s.x", []byte("event")); err != nil {
				t.Fatal(err)
			}
		}
		info, err := js.Stream(t.Context(), "S")
		if err != nil {
			t.Fatal(err)
		}
		if got, want := info.CachedInfo().State.Msgs, (round+1)*messages; got != want {
			t.Errorf("round %d: %d messages, want %d", round, got, want)
		}
		if err := n.Check(); err != nil {
			t.Error(err)
		}
		n.Close()
		n.Close() // a second Close is harmless
		if n.Check() == nil {
			t.Error("a closed server passes its check")
		}
	}
}

func TestNATSListens(t *testing.T) {
	t.Parallel()
	n, err := embedded.StartNATS(embedded.NATSOptions{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	conn, err := nats.Connect(n.URL())
	if err != nil {
		t.Fatalf("%s: %v", n.URL(), err)
	}
	defer conn.Close()
	if conn.MaxPayload() != 8<<20 {
		t.Errorf("payload limit %d", conn.MaxPayload())
	}
	if !strings.Contains(n.URL(), "127.0.0.1") {
		t.Errorf("listens on %s", n.URL())
	}
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(n.URL(), "nats://"))
	if port == "4222" || port == "0" {
		t.Errorf("port %s is not a free one", port)
	}
}

func TestNATSWithoutAPort(t *testing.T) {
	t.Parallel()
	n := embedded.OpenNATS(t)
	if n.URL() != "" {
		t.Errorf("URL %q without a port", n.URL())
	}
	js, _ := stream(t, n)
	if _, err := js.Publish(t.Context(), "s.big", make([]byte, 7<<20)); err != nil {
		t.Errorf("7 MiB: %v", err)
	}
}

func TestNATSStoreHeld(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n, err := embedded.StartNATS(embedded.NATSOptions{StoreDir: dir, Port: embedded.NATSPortNone})
	if err != nil {
		t.Fatal(err)
	}
	_, err = embedded.StartNATS(embedded.NATSOptions{StoreDir: dir, Port: embedded.NATSPortNone})
	if !errors.Is(err, embedded.ErrHeld) {
		t.Errorf("got %v", err)
	}
	n.Close()
	n, err = embedded.StartNATS(embedded.NATSOptions{StoreDir: dir, Port: embedded.NATSPortNone})
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	n.Close()
}

func TestNATSDoesNotStart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, c := range map[string]struct {
		options embedded.NATSOptions
		says    string
	}{
		"NoDirectory":    {embedded.NATSOptions{}, "StoreDir is required"},
		"FileAsStoreDir": {embedded.NATSOptions{StoreDir: file}, "NATS cannot use"},
		"PortTaken":      {embedded.NATSOptions{StoreDir: t.TempDir(), Port: taken.Addr().(*net.TCPAddr).Port}, "address already in use"},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := embedded.StartNATS(c.options)
			if err == nil {
				n.Close()
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
		})
	}
}

// A full store refuses new messages and keeps the old ones.
func TestNATSStoreFull(t *testing.T) {
	t.Parallel()
	n, err := embedded.StartNATS(embedded.NATSOptions{StoreDir: t.TempDir(), Port: embedded.NATSPortNone, StoreMaxBytes: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	js, _ := stream(t, n)
	kept := uint64(0)
	for err == nil && kept < 100 {
		if _, err = js.Publish(t.Context(), "s.x", make([]byte, 1<<20)); err == nil {
			kept++
		}
	}
	var refused *jetstream.APIError
	if !errors.As(err, &refused) || refused.ErrorCode != 10023 {
		t.Fatalf("after %d MiB: %v", kept, err)
	}
	s, err := js.Stream(t.Context(), "S")
	if err != nil || s.CachedInfo().State.Msgs != kept {
		t.Errorf("%+v, %v, want %d messages", s, err, kept)
	}
}
