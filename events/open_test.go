package events

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"aione/embedded"
)

func TestOpenMakesWhatItPromises(t *testing.T) {
	b := startBox(t)
	l := b.open(Options{Shards: 2})
	ctx := bounded(t)
	publishSingly(t, l, 2)
	mustAppend(t, l, Append{Subject: OrgSubject(orgA), Record: someRecord(t)})
	nc := b.connect()
	for _, name := range []string{ledgerStream, admissionStream, usageStream(0), usageStream(1)} {
		s := streamNamed(t, nc, name)
		c := s.CachedInfo().Config
		if c.Storage != jetstream.FileStorage || c.Discard != jetstream.DiscardNew || c.MaxAge != 0 || c.MaxBytes != -1 ||
			c.Retention != jetstream.LimitsPolicy || !c.DenyDelete || !c.DenyPurge || c.AllowDirect || c.Duplicates != duplicateWindow {
			t.Errorf("%s: %+v", name, c)
		}
		if err := s.DeleteMsg(ctx, 1); err == nil {
			t.Errorf("%s: a message was deleted", name)
		}
		if err := s.SecureDeleteMsg(ctx, 1); err == nil {
			t.Errorf("%s: a message was erased", name)
		}
		if err := s.Purge(ctx); err == nil {
			t.Errorf("%s: it was purged", name)
		}
		c.DenyDelete, c.DenyPurge = false, false
		if _, err := mustJS(t, nc).UpdateStream(ctx, c); err == nil {
			t.Errorf("%s: its guarantees were taken back", name)
		}
	}
	wantLedgerEnd(t, l, 1)
	if other, err := Open(ctx, nc, Options{Shards: 2}); err != nil {
		t.Errorf("a second process: %v", err)
	} else if err := other.Close(ctx); err != nil {
		t.Error(err)
	}
	for _, o := range []Options{{Shards: 1}, {Shards: 3}, {Shards: 2, Replicas: 3}, {Shards: 2, ConfirmWithin: duplicateWindow + 1}} {
		if _, err := Open(ctx, nc, o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

func TestOpenRefusesStreamsThatForget(t *testing.T) {
	b := startBox(t)
	nc := b.connect()
	js := mustJS(t, nc)
	ctx := bounded(t)
	for name, spoil := range map[string]func(*jetstream.StreamConfig){
		"age":          func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"memory":       func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"async":        func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode },
		"discard old":  func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
		"deletes":      func(c *jetstream.StreamConfig) { c.DenyDelete = false },
		"purges":       func(c *jetstream.StreamConfig) { c.DenyPurge = false },
		"rollups":      func(c *jetstream.StreamConfig) { c.DenyPurge, c.AllowRollup = false, true },
		"per subject":  func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 },
		"work queue":   func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy },
		"ttl":          func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true },
		"direct reads": func(c *jetstream.StreamConfig) { c.AllowDirect = true },
		"short window": func(c *jetstream.StreamConfig) { c.Duplicates = time.Second },
		"shards":       func(c *jetstream.StreamConfig) { c.Metadata = map[string]string{shardsMetadata: "4"} },
		"no metadata":  func(c *jetstream.StreamConfig) { c.Metadata = nil },
		"subjects":     func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "OTHER") },
		"atomic":       func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = true },
	} {
		c := jetstream.StreamConfig{Name: usageStream(0), Subjects: []string{usageSubject(0)}, Storage: jetstream.FileStorage,
			Discard: jetstream.DiscardNew, DenyDelete: true, DenyPurge: true, Duplicates: duplicateWindow,
			Metadata: map[string]string{shardsMetadata: "1"}}
		spoil(&c)
		if _, err := js.CreateStream(ctx, c); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := Open(ctx, nc, Options{}); err == nil || !strings.Contains(err.Error(), usageStream(0)) {
			t.Errorf("%s: %v", name, err)
		}
		if err := js.DeleteStream(ctx, c.Name); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenRefusesASmallPayload(t *testing.T) {
	b := startBoxWith(t, embedded.NATSOptions{PayloadMaxBytes: 8 << 10})
	if _, err := Open(bounded(t), b.connect(), Options{}); err == nil {
		t.Fatal("a server that cannot take an envelope is accepted")
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Open(cancelled, b.connect(), Options{}); err == nil {
		t.Fatal("opened without having looked")
	}
}
