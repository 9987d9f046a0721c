package catalog_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"aione/catalog"
	"aione/embedded"
	"aione/events"
	"aione/ledger"
)

func TestMain(m *testing.M) { os.Exit(embedded.TestMain(m)) }

// open gives a test a log and a way to follow it with a fresh catalog.
func open(t *testing.T) (log *events.Log, follow func() *catalog.Catalog) {
	t.Helper()
	nc, err := embedded.OpenNATS(t).Conn()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	log, err = events.Open(t.Context(), nc, events.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close(context.Background()) })
	return log, func() *catalog.Catalog {
		c := catalog.New()
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { _ = log.Follow(ctx, 0, c.Apply) })
		t.Cleanup(func() { cancel(); done.Wait() })
		end, err := log.LedgerEnd(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.WaitFor(ctx, end); err != nil {
			t.Fatal(err)
		}
		return c
	}
}

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func by() catalog.By { return catalog.By{Actor: "test", At: now} }

func TestStarterInstallsOnce(t *testing.T) {
	log, follow := open(t)
	c := follow()
	entries := catalog.Starter()
	if n, err := c.Install(t.Context(), log, entries, by()); err != nil || n != len(entries) {
		t.Fatalf("installed %d of %d, %v", n, len(entries), err)
	}
	end, _ := log.LedgerEnd(t.Context())
	other := follow()
	if n, err := other.Install(t.Context(), log, entries, by()); err != nil || n != 0 {
		t.Errorf("the second time it installed %d, %v", n, err)
	}
	if after, _ := log.LedgerEnd(t.Context()); after != end {
		t.Errorf("the second time it wrote %d records", after-end)
	}
	for alias, id := range map[string]string{
		"opus-4-6": "claude-opus-4-6", "sonnet-4-6": "claude-sonnet-4-6", "haiku-4-5": "claude-haiku-4-5", "gpt-4o": "gpt-4o",
	} {
		if m, ok := other.Resolve(alias); !ok || m.ID != id || !m.Enabled {
			t.Errorf("%s resolves to %+v, %t", alias, m, ok)
		}
	}
	if _, ok := other.Resolve("GPT-4o"); ok {
		t.Error("ids must be case-sensitive")
	}
	models := other.Models()
	if len(models) != len(entries) {
		t.Errorf("%d models", len(models))
	}
	for _, m := range models {
		p, err := other.PriceAt(m.ID, time.Date(2023, 11, 16, 0, 0, 0, 0, time.UTC))
		if err != nil || p.Version != m.ID+"@1" {
			t.Errorf("%s in 2023: %+v, %v", m.ID, p, err)
			continue
		}
		cost, err := ledger.Rate(p, events.Tokens{Input: 1000, CacheRead: 1000, Output: 1000, Reasoning: 10}, 0)
		if err != nil || cost.Sign() <= 0 {
			t.Errorf("%s is free: %s, %v", m.ID, cost, err)
		}
	}
}

func TestPriceAt(t *testing.T) {
	log, follow := open(t)
	c := follow()
	mustRegister(t, c, log, "m")
	if _, err := c.PriceAt("m", now); !errors.Is(err, catalog.ErrNoPrice) {
		t.Errorf("no price yet: %v, want ErrNoPrice", err)
	}
	publish := func(from time.Time, input string) {
		t.Helper()
		price := catalog.Price{Model: "m", EffectiveFrom: from, Currency: "CNY", Input: decimal.RequireFromString(input)}
		if _, err := c.PublishPrice(t.Context(), log, catalog.Publication{Price: price}, by()); err != nil {
			t.Fatal(err)
		}
	}
	publish(now, "1")
	publish(now.Add(time.Hour), "2")
	publish(now.Add(2*time.Hour), "3.500000")
	for _, c2 := range []*catalog.Catalog{c, follow()} {
		for after, want := range map[time.Duration]string{0: "m@1", time.Hour - 1: "m@1", time.Hour: "m@2", 2 * time.Hour: "m@3", 9999 * time.Hour: "m@3"} {
			if p, err := c2.PriceAt("m", now.Add(after)); err != nil || p.Version != want {
				t.Errorf("after %s: %s, %v; want %s", after, p.Version, err, want)
			}
		}
		if _, err := c2.PriceAt("m", now.Add(-1)); !errors.Is(err, catalog.ErrNoPrice) {
			t.Errorf("before the first: %v, want ErrNoPrice", err)
		}
		if p, ok := c2.Price("m@3"); !ok || p.Input.String() != "3.5" {
			t.Errorf("m@3: %+v, %t", p, ok)
		}
		if len(c2.Prices("m")) != 3 {
			t.Errorf("%d versions", len(c2.Prices("m")))
		}
	}
}

func mustRegister(t *testing.T, c *catalog.Catalog, log *events.Log, id string, aliases ...string) {
	t.Helper()
	m := catalog.Model{ID: id, Name: id, Provider: "p", Aliases: aliases, Enabled: true}
	if err := c.RegisterModel(t.Context(), log, m, by()); err != nil {
		t.Fatal(err)
	}
}

func TestPublishPriceRefuses(t *testing.T) {
	log, follow := open(t)
	c := follow()
	mustRegister(t, c, log, "m")
	mustRegister(t, c, log, "fresh")
	good := catalog.Price{Model: "m", EffectiveFrom: now.Add(time.Hour), Currency: "CNY", Input: decimal.New(1, 0)}
	if _, err := c.PublishPrice(t.Context(), log, catalog.Publication{Price: good}, by()); err != nil {
		t.Fatal(err)
	}
	end, _ := log.LedgerEnd(t.Context())
	for name, x := range map[string]struct {
		change   func(*catalog.Publication)
		want     error
		backdate bool
	}{
		"unknown model":      {func(p *catalog.Publication) { p.Price.Model = "x" }, catalog.ErrUnknownModel, false},
		"seventh place":      {func(p *catalog.Publication) { p.Price.Output = decimal.New(1, -7) }, catalog.ErrInvalidPrice, false},
		"negative":           {func(p *catalog.Publication) { p.Price.Image = decimal.New(-1, 0) }, catalog.ErrInvalidPrice, false},
		"too dear":           {func(p *catalog.Publication) { p.Price.Input = decimal.New(1, 9) }, catalog.ErrInvalidPrice, false},
		"huge exponent":      {func(p *catalog.Publication) { p.Price.Input = decimal.New(1, 2_000_000_000) }, catalog.ErrInvalidPrice, false},
		"tiny exponent":      {func(p *catalog.Publication) { p.Price.Input = decimal.New(1, -2_000_000_000) }, catalog.ErrInvalidPrice, false},
		"other currency":     {func(p *catalog.Publication) { p.Price.Currency = "USD" }, catalog.ErrInvalidPrice, false},
		"no currency":        {func(p *catalog.Publication) { p.Price.Currency = "yen" }, catalog.ErrInvalidPrice, false},
		"same start":         {func(p *catalog.Publication) { p.Price.EffectiveFrom = good.EffectiveFrom }, catalog.ErrRepricesHistory, false},
		"in the past":        {func(p *catalog.Publication) { p.Price.EffectiveFrom = now.Add(-time.Hour) }, catalog.ErrRepricesHistory, true},
		"first, in the past": {func(p *catalog.Publication) { p.Price.Model, p.Price.EffectiveFrom = "fresh", now.Add(-1e9) }, catalog.ErrRepricesHistory, false},
		"microseconds":       {func(p *catalog.Publication) { p.Price.EffectiveFrom = now.Add(3*time.Hour + 1) }, catalog.ErrInvalidPrice, false},
	} {
		pub := catalog.Publication{Price: good, Backdate: x.backdate}
		pub.Price.EffectiveFrom = now.Add(2 * time.Hour)
		x.change(&pub)
		if _, err := c.PublishPrice(t.Context(), log, pub, by()); !errors.Is(err, x.want) {
			t.Errorf("%s: %v, want %v", name, err, x.want)
		}
	}
	if after, _ := log.LedgerEnd(t.Context()); after != end {
		t.Errorf("%d records were written", after-end)
	}
}

func TestTwoPublishersConflict(t *testing.T) {
	log, follow := open(t)
	c := follow()
	mustRegister(t, c, log, "m")
	stale := catalog.New() // knows the model, then stops following
	ctx, cancel := context.WithCancel(t.Context())
	end, _ := log.LedgerEnd(ctx)
	_ = log.Follow(ctx, 0, func(r events.Record) error {
		defer func() {
			if r.Seq == end {
				cancel()
			}
		}()
		return stale.Apply(r)
	})
	pub := catalog.Publication{Price: catalog.Price{Model: "m", EffectiveFrom: now, Currency: "CNY"}}
	if _, err := c.PublishPrice(t.Context(), log, pub, by()); err != nil {
		t.Fatal(err)
	}
	if _, err := stale.PublishPrice(t.Context(), log, pub, by()); !errors.Is(err, events.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
}

func TestAliases(t *testing.T) {
	log, follow := open(t)
	c := follow()
	mustRegister(t, c, log, "one", "short")
	mustRegister(t, c, log, "two")
	for name, m := range map[string]catalog.Model{
		"alias of another": {ID: "two", Name: "n", Provider: "p", Aliases: []string{"short"}},
		"alias is an id":   {ID: "two", Name: "n", Provider: "p", Aliases: []string{"one"}},
		"id is an alias":   {ID: "short", Name: "n", Provider: "p"},
		"alias twice":      {ID: "two", Name: "n", Provider: "p", Aliases: []string{"x", "x"}},
		"at sign":          {ID: "a@1", Name: "n", Provider: "p"},
		"no id":            {Name: "n", Provider: "p"},
	} {
		if err := c.RegisterModel(t.Context(), log, m, by()); !errors.Is(err, catalog.ErrInvalidModel) {
			t.Errorf("%s: %v, want ErrInvalidModel", name, err)
		}
	}
	mustRegister(t, c, log, "one", "brief") // gives "short" back
	if _, ok := c.Resolve("short"); ok {
		t.Error("an alias outlives its model's registration")
	}
	if m, ok := c.Resolve("brief"); !ok || m.ID != "one" {
		t.Errorf("brief is %+v, %t", m, ok)
	}
}

func TestApplyRefusesACorruptHistory(t *testing.T) {
	c := catalog.New()
	for seq, from := range []time.Time{now, now} {
		rec, err := events.NewRecord(catalog.TypePricePublished, now, "test", "", catalog.Price{Version: "m@1", Model: "m", EffectiveFrom: from})
		if err != nil {
			t.Fatal(err)
		}
		rec.Seq = uint64(seq + 1)
		if err := c.Apply(rec); seq == 1 && !errors.Is(err, catalog.ErrCorrupt) {
			t.Errorf("got %v, want ErrCorrupt", err)
		}
		if err := c.Apply(rec); seq == 0 && err != nil {
			t.Errorf("the same record again: %v", err)
		}
	}
}

func BenchmarkPriceAt(b *testing.B) {
	c := catalog.New()
	for i := range 5 {
		rec, err := events.NewRecord(catalog.TypePricePublished, now, "test", "", catalog.Price{Version: "m@" + string(rune('1'+i)), Model: "m", EffectiveFrom: now.Add(time.Duration(i) * time.Hour)})
		if err != nil {
			b.Fatal(err)
		}
		rec.Seq = uint64(i + 1)
		if err := c.Apply(rec); err != nil {
			b.Fatal(err)
		}
	}
	at := now.Add(9 * time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.PriceAt("m", at); err != nil {
			b.Fatal(err)
		}
	}
}
