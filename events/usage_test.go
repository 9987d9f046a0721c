package events

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

func TestValidateBounds(t *testing.T) {
	long := strings.Repeat("x", MaxTextBytes+1)
	west := time.FixedZone("west", -12*3600)
	for name, c := range map[string]struct {
		ok  bool
		set func(*Usage)
	}{
		"as it is":                   {true, func(u *Usage) {}},
		"no id":                      {false, func(u *Usage) { u.ID = uuid.Nil }},
		"no org":                     {false, func(u *Usage) { u.OrgID = uuid.Nil }},
		"no team, no key":            {true, func(u *Usage) { u.TeamID, u.KeyID = uuid.Nil, uuid.Nil }},
		"no model":                   {false, func(u *Usage) { u.Model = "" }},
		"no price version":           {false, func(u *Usage) { u.PriceVersion = "" }},
		"no price version, sandbox":  {true, func(u *Usage) { u.PriceVersion, u.Sandbox, u.Cost = "", true, decimal.Zero }},
		"sandbox that costs":         {false, func(u *Usage) { u.Sandbox = true }},
		"no currency":                {false, func(u *Usage) { u.Currency = "" }},
		"currency in small letters":  {false, func(u *Usage) { u.Currency = "usd" }},
		"currency of three bytes":    {false, func(u *Usage) { u.Currency = "¥1" }},
		"outcome 0":                  {false, func(u *Usage) { u.Outcome = 0 }},
		"outcome 5":                  {true, func(u *Usage) { u.Outcome = 5 }},
		"outcome 6":                  {false, func(u *Usage) { u.Outcome = 6 }},
		"outcome 255":                {false, func(u *Usage) { u.Outcome = 255 }},
		"source 0":                   {false, func(u *Usage) { u.Source = 0 }},
		"source 3":                   {false, func(u *Usage) { u.Source = 3 }},
		"zero time":                  {false, func(u *Usage) { u.OccurredAt = time.Time{} }},
		"first instant":              {true, func(u *Usage) { u.OccurredAt = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }},
		"before the first instant":   {false, func(u *Usage) { u.OccurredAt = time.Date(1999, 12, 31, 23, 59, 59, 999e6, time.UTC) }},
		"last instant":               {true, func(u *Usage) { u.OccurredAt = time.Date(2200, 12, 31, 23, 59, 59, 999e6, time.UTC) }},
		"2201 for the reader":        {false, func(u *Usage) { u.OccurredAt = time.Date(2200, 12, 31, 23, 0, 0, 0, west) }},
		"images at the bound":        {true, func(u *Usage) { u.Images = MaxImages }},
		"images over it":             {false, func(u *Usage) { u.Images = MaxImages + 1 }},
		"text at the bound":          {true, func(u *Usage) { u.ExternalID = long[1:] }},
		"model over it":              {false, func(u *Usage) { u.Model = long }},
		"provider over it":           {false, func(u *Usage) { u.Provider = long }},
		"price version over it":      {false, func(u *Usage) { u.PriceVersion = long }},
		"producer over it":           {false, func(u *Usage) { u.Producer = long }},
		"external id over it":        {false, func(u *Usage) { u.ExternalID = long }},
		"external id not UTF-8":      {false, func(u *Usage) { u.ExternalID = "\xc3\x28" }},
		"cost 0":                     {true, func(u *Usage) { u.Cost = decimal.Decimal{} }},
		"cost with zeros past 12":    {true, func(u *Usage) { u.Cost = decimal.RequireFromString("1.10000000000000000") }},
		"cost of 13 places":          {false, func(u *Usage) { u.Cost = decimal.RequireFromString("0.0000000000001") }},
		"cost just under a million":  {true, func(u *Usage) { u.Cost = decimal.RequireFromString("999999.999999999999") }},
		"cost of a million":          {false, func(u *Usage) { u.Cost = decimal.New(1, 6) }},
		"cost of a million, 12 sc.":  {false, func(u *Usage) { u.Cost = decimal.RequireFromString("1000000.000000000000") }},
		"negative cost":              {false, func(u *Usage) { u.Cost = decimal.RequireFromString("-0.01") }},
		"cost that would take hours": {false, func(u *Usage) { u.Cost = decimal.New(1, 1<<30) }},
		"cost of endless places":     {false, func(u *Usage) { u.Cost = decimal.New(1, -1<<30) }},
		"zero of endless places":     {true, func(u *Usage) { u.Cost = decimal.New(0, -1<<30) }},
		"sandbox, endless cost":      {false, func(u *Usage) { u.Sandbox, u.Cost = true, decimal.New(1, 1<<30) }},
		"retried, empty":             {true, func(u *Usage) { u.Retried, u.Tokens, u.Images, u.Cost = true, Tokens{}, 0, decimal.Zero }},
		"retried, with a token":      {false, func(u *Usage) { u.Retried, u.Tokens, u.Images, u.Cost = true, Tokens{Output: 1}, 0, decimal.Zero }},
		"retried, with an image":     {false, func(u *Usage) { u.Retried, u.Tokens, u.Images, u.Cost = true, Tokens{}, 1, decimal.Zero }},
		"retried, with a cost":       {false, func(u *Usage) { u.Retried, u.Tokens, u.Images = true, Tokens{}, 0 }},
		"coefficient over 64 bits":   {false, func(u *Usage) { u.Cost = decimal.RequireFromString("18446744073709.551616000000") }},
	} {
		u := goldenUsage()
		c.set(&u)
		err := u.Validate()
		if (err == nil) != c.ok || (err != nil && !errors.Is(err, ErrInvalidUsage)) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		var got Usage // what a writer may write, a reader can read
		if err := new(Decoder).Usage(AppendUsage(nil, &u), &got); err != nil || !got.Cost.Equal(u.Cost) {
			t.Errorf("%s: reading back: %v, cost %s", name, err, got.Cost)
		}
	}
}

func TestValidateBoundsEveryBucket(t *testing.T) {
	for i := range 6 {
		for _, n := range []uint64{MaxTokensPerBucket, MaxTokensPerBucket + 1} {
			u := goldenUsage()
			*[]*uint64{&u.Tokens.Input, &u.Tokens.CacheRead, &u.Tokens.CacheWrite5m, &u.Tokens.CacheWrite1h, &u.Tokens.Output, &u.Tokens.Reasoning}[i] = n
			if err := u.Validate(); (err == nil) != (n == MaxTokensPerBucket) {
				t.Errorf("bucket %d of %d: %v", i, n, err)
			}
		}
	}
}

func TestAppendUsageRefusesTheUnvalidated(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("a cost that does not fit was written")
		}
	}()
	u := goldenUsage()
	u.Cost = decimal.New(1, 6)
	AppendUsage(nil, &u)
}

func TestDigestIsWhatIsBilled(t *testing.T) {
	base := goldenUsage()
	base.TimeAssigned = false
	want := base.Digest()
	other := NewID()
	for name, set := range map[string]func(*Usage){
		"id": func(u *Usage) { u.ID = other }, "org": func(u *Usage) { u.OrgID = other },
		"team": func(u *Usage) { u.TeamID = other }, "key": func(u *Usage) { u.KeyID = other },
		"model":      func(u *Usage) { u.Model += "x" },
		"time":       func(u *Usage) { u.OccurredAt = u.OccurredAt.Add(time.Millisecond) },
		"assigned":   func(u *Usage) { u.TimeAssigned = true },
		"input":      func(u *Usage) { u.Tokens.Input++ },
		"cache read": func(u *Usage) { u.Tokens.CacheRead++ },
		"write 5m":   func(u *Usage) { u.Tokens.CacheWrite5m++ },
		"write 1h":   func(u *Usage) { u.Tokens.CacheWrite1h++ },
		"output":     func(u *Usage) { u.Tokens.Output++ },
		"reasoning":  func(u *Usage) { u.Tokens.Reasoning++ },
		"images":     func(u *Usage) { u.Images++ },
		"outcome":    func(u *Usage) { u.Outcome = OutcomeCompleted },
		"sandbox":    func(u *Usage) { u.Sandbox = true },
		"swapped":    func(u *Usage) { u.Tokens.Input, u.Tokens.Output = u.Tokens.Output, u.Tokens.Input },
	} {
		u := base
		set(&u)
		if u.Digest() == want {
			t.Errorf("blind to %s", name)
		}
	}
	for name, set := range map[string]func(*Usage){
		"price version": func(u *Usage) { u.PriceVersion = "pv2" }, "cost": func(u *Usage) { u.Cost = decimal.New(1, 0) },
		"currency": func(u *Usage) { u.Currency = "USD" }, "latency": func(u *Usage) { u.LatencyMS++ }, "ttft": func(u *Usage) { u.TTFTMS++ },
		"status": func(u *Usage) { u.HTTPStatus = 0 }, "provider": func(u *Usage) { u.Provider = "x" },
		"retried":   func(u *Usage) { u.Retried = true },
		"time zone": func(u *Usage) { u.OccurredAt = u.OccurredAt.In(time.FixedZone("CST", 8*3600)) },
	} {
		u := base
		set(&u)
		if u.Digest() != want {
			t.Errorf("changed by %s: an honest retry would be a conflict", name)
		}
	}
	a, b := base, base
	a.TimeAssigned, b.TimeAssigned = true, true
	b.OccurredAt = b.OccurredAt.Add(time.Hour)
	if a.Digest() != b.Digest() {
		t.Error("changed by an assigned time of receipt")
	}
	long := base
	long.Model = strings.Repeat("m", MaxTextBytes)
	if long.Digest() == want {
		t.Error("blind to a long model")
	}
}

func TestNamesRoundTrip(t *testing.T) {
	for o := OutcomeCompleted; o <= OutcomeAbandoned; o++ {
		if got, err := ParseOutcome(o.String()); err != nil || got != o {
			t.Errorf("%v: %v %v", o, got, err)
		}
	}
	for s := SourceReported; s <= SourceEstimated; s++ {
		if got, err := ParseSource(s.String()); err != nil || got != s {
			t.Errorf("%v: %v %v", s, got, err)
		}
	}
	for _, bad := range []string{"", "unknown(0)", "Completed"} {
		if _, err := ParseOutcome(bad); err == nil {
			t.Errorf("outcome %q parses", bad)
		}
		if _, err := ParseSource(bad); err == nil {
			t.Errorf("source %q parses", bad)
		}
	}
	if Outcome(0).String() != "unknown(0)" || Source(99).String() != "unknown(99)" {
		t.Error("unknown numbers are not named as such")
	}
	tk := goldenUsage().Tokens
	if tk.Prompt() != 10 || tk.Completion() != 305 || tk.Total() != 315 {
		t.Errorf("sums: %d %d %d", tk.Prompt(), tk.Completion(), tk.Total())
	}
}

func TestDeriveID(t *testing.T) {
	const golden = "82e2bfb1-6e1a-8409-991f-5406fb33bf1c" // checked with another SHA-256
	got := DeriveID("producer-event", []byte("a"), []byte("bc"))
	if got.String() != golden {
		t.Errorf("DeriveID gives %s, want %s: every id derived so far would change", got, golden)
	}
	seen := map[uuid.UUID]string{}
	for name, id := range map[string]uuid.UUID{
		"a,bc": got, "ab,c": DeriveID("producer-event", []byte("ab"), []byte("c")), "abc": DeriveID("producer-event", []byte("abc")),
		"abc,": DeriveID("producer-event", []byte("abc"), nil), "kind": DeriveID("producer-even", []byte("ta"), []byte("bc")),
		"kind only": DeriveID("producer-event"), "other kind": DeriveID("run", []byte("a"), []byte("bc")),
		"org A": ProducerEventID(orgA, "s", "1"), "org B": ProducerEventID(orgB, "s", "1"), "source": ProducerEventID(orgA, "s1", ""),
	} {
		if twin, dup := seen[id]; dup {
			t.Errorf("%s and %s collide", name, twin)
		}
		seen[id] = name
		if id.Version() != 8 || id.Variant() != uuid.RFC4122 {
			t.Errorf("%s: version %d, variant %s", name, id.Version(), id.Variant())
		}
	}
	if first, again := ProducerEventID(orgA, "s", "1"), ProducerEventID(orgA, "s", "1"); first != again {
		t.Error("not a function of its input")
	}
}

func TestNewID(t *testing.T) {
	const each, routines = 2500, 4
	ids := make(chan uuid.UUID, each*routines)
	for range routines {
		go func() {
			for range each {
				ids <- NewID()
			}
		}()
	}
	seen := map[uuid.UUID]bool{}
	for range each * routines {
		id := <-ids
		if seen[id] || id.Version() != 7 || id.Variant() != uuid.RFC4122 {
			t.Fatalf("id %s: seen before %v, version %d", id, seen[id], id.Version())
		}
		seen[id] = true
	}
}
