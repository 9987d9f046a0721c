package catalog_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"aione/catalog"
	"aione/events"
)

func TestModelsAt(t *testing.T) {
	log, follow := open(t)
	c := follow()
	mustRegister(t, c, log, "b", "alias-of-b")
	mustRegister(t, c, log, "a")
	off := catalog.Model{ID: "c", Name: "off", Provider: "p", ContextLength: 1000}
	if err := c.RegisterModel(t.Context(), log, off, by()); err != nil {
		t.Fatal(err)
	}
	for i, input := range []string{"1.5", "2"} {
		p := catalog.Price{Model: "b", EffectiveFrom: now.Add(time.Duration(i) * time.Hour), Currency: "CNY", Input: decimal.RequireFromString(input),
			Output: decimal.New(3, 0), CacheRead: decimal.New(4, 0), CacheWrite5m: decimal.New(5, 0), CacheWrite1h: decimal.New(9, 0), Image: decimal.New(28, -2)}
		if _, err := c.PublishPrice(t.Context(), log, catalog.Publication{Price: p}, by()); err != nil {
			t.Fatal(err)
		}
	}
	const (
		a  = `{"id":"a","name":"a","provider":"p","context_length":0,"input_price":null,"output_price":null,"cached_input_price":null,"cache_write_price":null,"image_price":null,"currency":null,"price_version":null,"effective_from":null,"enabled":true}`
		b1 = `{"id":"b","name":"b","provider":"p","context_length":0,"input_price":"1.5","output_price":"3","cached_input_price":"4","cache_write_price":"5","image_price":"0.28","currency":"CNY","price_version":"b@1","effective_from":"2026-11-01T12:00:00Z","enabled":true}`
		b0 = `{"id":"b","name":"b","provider":"p","context_length":0,"input_price":null,"output_price":null,"cached_input_price":null,"cache_write_price":null,"image_price":null,"currency":null,"price_version":null,"effective_from":null,"enabled":true}`
		b2 = `{"id":"b","name":"b","provider":"p","context_length":0,"input_price":"2","output_price":"3","cached_input_price":"4","cache_write_price":"5","image_price":"0.28","currency":"CNY","price_version":"b@2","effective_from":"2026-11-01T13:00:00Z","enabled":true}`
		cc = `{"id":"c","name":"off","provider":"p","context_length":1000,"input_price":null,"output_price":null,"cached_input_price":null,"cache_write_price":null,"image_price":null,"currency":null,"price_version":null,"effective_from":null,"enabled":false}`
	)
	for after, b := range map[time.Duration]string{-1: b0, 0: b1, time.Hour - 1: b1, time.Hour: b2} {
		got, err := json.Marshal(follow().ModelsAt(now.Add(after)))
		if want := "[" + strings.Join([]string{a, b, cc}, ",") + "]"; err != nil || string(got) != want {
			t.Errorf("at %s: %s, %v; want %s", after, got, err, want)
		}
	}
	if got := catalog.New().ModelsAt(now); got == nil || len(got) != 0 {
		t.Errorf("of an empty catalog: %#v", got)
	}
}

// TestPricesAreAPicture says that a list of prices does not change under its
// reader, though it is not copied for each.
func TestPricesAreAPicture(t *testing.T) {
	c := catalog.New()
	publish := func(seq uint64, version string) {
		r, err := events.NewRecord(catalog.TypePricePublished, now, "test", "", catalog.Price{Version: version, Model: "m", EffectiveFrom: now.Add(time.Duration(seq))})
		if err != nil {
			t.Fatal(err)
		}
		r.Seq = seq
		if err := c.Apply(r); err != nil {
			t.Fatal(err)
		}
	}
	publish(1, "m@1")
	before := c.Prices("m")
	_ = append(before, catalog.Price{Version: "by mistake"})
	publish(2, "m@2")
	if len(before) != 1 || before[0].Version != "m@1" || len(c.Prices("m")) != 2 || c.Prices("m")[1].Version != "m@2" {
		t.Errorf("before %v, now %v", before, c.Prices("m"))
	}
	if n := testing.AllocsPerRun(10, func() { _ = c.Prices("m") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestStarterIsBroad has the models that clients expect, at prices that make
// sense beside each other.
func TestStarterIsBroad(t *testing.T) {
	byID := make(map[string]catalog.StarterEntry)
	var perRequest, perImage, cheaperCached, dearerWritten bool
	for _, e := range catalog.Starter() {
		if _, twice := byID[e.Model.ID]; twice {
			t.Errorf("%s is there twice", e.Model.ID)
		}
		byID[e.Model.ID] = e
		p := e.Price
		perRequest = perRequest || p.Request.IsPositive()
		perImage = perImage || p.Image.IsPositive()
		cheaperCached = cheaperCached || p.CacheRead.Cmp(p.Input) < 0
		dearerWritten = dearerWritten || p.CacheWrite1h.Cmp(p.CacheWrite5m) > 0 && p.CacheWrite5m.Cmp(p.Input) > 0
		if e.Model.Name == "" || e.Model.Provider == "" || e.Model.ContextLength < 32_000 || !e.Model.Enabled {
			t.Errorf("%+v", e.Model)
		}
		if p.CacheRead.Cmp(p.Input) > 0 || p.CacheWrite5m.Cmp(p.Input) < 0 || p.CacheWrite1h.Cmp(p.CacheWrite5m) < 0 || p.Output.Cmp(p.Input) < 0 || !p.Reasoning.Equal(p.Output) {
			t.Errorf("%s: prices do not go together: %+v", e.Model.ID, p)
		}
	}
	for id := range strings.FieldsSeq(`gpt-4o gpt-4o-mini gpt-4.1 gpt-4.1-mini o3 o4-mini gpt-5 gpt-5-mini
		claude-opus-4-6 claude-sonnet-4-6 claude-haiku-4-5 gemini-2.5-pro gemini-2.5-flash gemini-2.5-flash-lite gemini-2.5-flash-image
		deepseek-chat deepseek-reasoner qwen-max qwen-plus`) {
		if _, ok := byID[id]; !ok {
			t.Errorf("%s is missing", id)
		}
	}
	if !perRequest || !perImage || !cheaperCached || !dearerWritten {
		t.Error("a kind of price is not there")
	}
	// What Google lists for a picture, in its tokens and the rest.
	const pictureTokens = 1290
	p := byID["gemini-2.5-flash-image"].Price
	if cost := p.Image.Add(p.Output.Mul(decimal.New(pictureTokens, -6))); !cost.Equal(decimal.RequireFromString("0.2808")) {
		t.Errorf("a picture costs %s", cost)
	}
}
