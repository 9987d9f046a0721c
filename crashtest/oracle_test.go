package crashtest

import (
	"context"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/events"
)

// unitPrices per 1,000,000 tokens, written down here once more.
var unitPrices = map[string]struct{ input, cacheRead, output, reasoning string }{
	"gpt-4o":        {"18", "9", "72", "72"},
	"deepseek-chat": {"2", "0.2", "3", "3"},
}

// cost is what tokens cost, exactly.
func cost(model string, t events.Tokens) *big.Rat {
	p, sum := unitPrices[model], new(big.Rat)
	for _, b := range []struct {
		n     uint64
		price string
	}{{t.Input, p.input}, {t.CacheRead, p.cacheRead}, {t.Output, p.output}, {t.Reasoning, p.reasoning}} {
		price, ok := new(big.Rat).SetString(b.price)
		if !ok {
			panic("no price of " + model)
		}
		sum.Add(sum, price.Mul(price, new(big.Rat).SetFrac(new(big.Int).SetUint64(b.n), big.NewInt(1_000_000))))
	}
	return sum
}

// tokens are the disjoint buckets of an attempt.
func (a *attempt) tokens() events.Tokens {
	return events.Tokens{Input: a.prompt - a.cached, CacheRead: a.cached, Output: a.completion - a.reasoning, Reasoning: a.reasoning}
}

// row is a row of ClickHouse.
type row struct {
	org, id     uuid.UUID
	disposition string
	model       string
	outcome     string
	source      string
	tokens      events.Tokens
	cost        decimal.Decimal
}

func (r row) String() string {
	return fmt.Sprintf("%s %s %s of %s, %s, %+v, cost %s", r.disposition, r.outcome, r.id, r.model, r.source, r.tokens, r.cost)
}

// rows reads every row there is, without the code under test.
func (p *platform) rows() []row {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	found, err := p.clickhouse().Query(ctx, `
SELECT org_id, event_id, toString(disposition), toString(model), toString(outcome), toString(usage_source),
    input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens, cost
FROM usage_events ORDER BY shard, stream_seq, idx`)
	if err != nil {
		p.t.Fatal(err)
	}
	defer found.Close()
	var out []row
	for found.Next() {
		var r row
		if err := found.Scan(&r.org, &r.id, &r.disposition, &r.model, &r.outcome, &r.source, &r.tokens.Input, &r.tokens.CacheRead,
			&r.tokens.CacheWrite5m, &r.tokens.CacheWrite1h, &r.tokens.Output, &r.tokens.Reasoning, &r.cost); err != nil {
			p.t.Fatal(err)
		}
		out = append(out, r)
	}
	if err := found.Err(); err != nil {
		p.t.Fatal(err)
	}
	return out
}

// truth is the event log, read from its first message to its last.
type truth struct {
	admitted  map[uuid.UUID]events.Admission
	settled   map[uuid.UUID]events.Usage // the first event of each id
	copies    int
	conflicts int
}

func readTruth(t testing.TB, log *events.Log) truth {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out := truth{admitted: map[uuid.UUID]events.Admission{}, settled: map[uuid.UUID]events.Usage{}}
	end, err := log.AdmissionsEnd(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if end > 0 {
		reader, err := log.ReadAdmissions(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Stop()
		for seq := uint64(0); seq < end; {
			b, err := reader.Next(ctx)
			if err != nil || b.Err != nil {
				t.Fatal(err, b.Err)
			}
			for _, a := range b.Admissions {
				out.admitted[a.ID] = a
			}
			seq = b.Seq
		}
	}
	var decoder events.Decoder
	for shard := range log.Shards() {
		end, _, err := log.UsageEnd(ctx, shard)
		if err != nil {
			t.Fatal(err)
		}
		if end == 0 {
			continue
		}
		reader, err := log.ReadUsage(ctx, shard, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Stop()
		for seq := uint64(0); seq < end; {
			m, err := reader.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			seq = m.Seq
			usages, bad, err := decoder.Envelope(m.Data, nil)
			if err != nil || len(bad) > 0 {
				t.Fatal("sequence", m.Seq, "of the log cannot be read:", err, bad)
			}
			for _, u := range usages {
				old, again := out.settled[u.ID]
				switch {
				case !again:
					out.settled[u.ID] = u
				case old.Digest() == u.Digest():
					out.copies++
				default:
					out.conflicts++
				}
			}
		}
	}
	return out
}

// covered reports whether the log had a record of a request before its client could
// have anything of it: the admission, or of a plain answer the usage. The admission of
// one may be lost with its gateway, as while the log comes back from a crash.
func (t truth) covered(id uuid.UUID) bool {
	_, admitted := t.admitted[id]
	u, settled := t.settled[id]
	return admitted || settled && !u.Stream
}

// findings collects what is wrong, a bounded number of each kind.
type findings struct {
	t    testing.TB
	seen map[string]int
}

func (f *findings) add(kind, format string, args ...any) {
	f.t.Helper()
	if f.seen == nil {
		f.seen = map[string]int{}
	}
	if f.seen[kind]++; f.seen[kind] <= 5 {
		f.t.Errorf("%s: %s", kind, fmt.Sprintf(format, args...))
	}
}

// judge compares what clients saw, what the log holds and what the rows say.
func (p *platform) judge(org uuid.UUID, attempts []attempt, truth truth, rows []row) {
	p.t.Helper()
	f := &findings{t: p.t}
	counted, copies := map[uuid.UUID]row{}, map[uuid.UUID]int{}
	for _, r := range rows {
		switch r.disposition {
		case "counted":
			if _, twice := counted[r.id]; twice {
				f.add("counted twice", "event %s", r.id)
			}
			counted[r.id] = r
			if r.org != org {
				f.add("wrong org", "event %s counts for %s", r.id, r.org)
			}
		case "duplicate":
			copies[r.id]++
		default:
			f.add("set aside", "event %s is a row marked %s", r.id, r.disposition)
		}
	}
	answered := map[uuid.UUID]*attempt{}
	byPrompt := map[uint64]*attempt{}
	for i := range attempts {
		a := &attempts[i]
		byPrompt[a.prompt] = a
		if !a.answered {
			continue
		}
		if answered[a.id] != nil {
			f.add("id given twice", "requests %d and %d both got %s", answered[a.id].n, a.n, a.id)
		}
		answered[a.id] = a
		r, ok := counted[a.id]
		if !truth.covered(a.id) {
			f.add("answered without admission", "request %d, %s", a.n, a.id)
		}
		if !ok {
			f.add("answered and free", "request %d, %s, has no counted row", a.n, a.id)
			continue
		}
		if r.tokens != a.tokens() || r.model != a.model || r.outcome != "completed" || r.source != "reported" {
			f.add("answered and counted wrongly", "request %d used %+v of %s, the row says %s", a.n, a.tokens(), a.model, r)
		}
		if want := cost(a.model, a.tokens()); r.cost.Rat().Cmp(want) != 0 {
			f.add("answered and priced wrongly", "request %d costs %s, the row says %s", a.n, want.RatString(), r.cost)
		}
	}
	// The other way round: every counted row was admitted, or stands for that, and those
	// with figures of the provider are of one request that was sent, and of no other.
	claimed := map[uint64]uuid.UUID{}
	for id, r := range counted {
		if !truth.covered(id) {
			f.add("counted without admission", "event %s", id)
		}
		if r.source != "reported" {
			continue
		}
		a := byPrompt[r.tokens.Prompt()]
		if a == nil || r.tokens != a.tokens() {
			f.add("counted and never sent", "event %s with %+v", id, r.tokens)
			continue
		}
		if other, taken := claimed[a.n]; taken {
			f.add("one request, two charges", "request %d: %s and %s", a.n, other, id)
		}
		claimed[a.n] = id
		if a.answered && a.id != id {
			f.add("one request, two charges", "request %d was answered as %s and is counted as %s", a.n, a.id, id)
		}
	}
	for id := range truth.admitted {
		if _, ok := counted[id]; !ok {
			f.add("admitted and never settled", "request %s", id)
		}
	}
	if len(truth.admitted) > len(attempts) {
		f.add("more admissions than requests", "%d of %d", len(truth.admitted), len(attempts))
	}
	for id, u := range truth.settled {
		if r, ok := counted[id]; !ok || r.tokens != u.Tokens || !r.cost.Equal(u.Cost) || r.outcome != u.Outcome.String() {
			f.add("log and rows differ", "event %s is %+v in the log, the row is %s", id, u, r)
		}
	}
	if len(truth.settled) != len(counted) || truth.conflicts != 0 {
		f.add("log and rows differ", "%d ids in the log, %d counted, %d conflicts in the log", len(truth.settled), len(counted), truth.conflicts)
	}
	total := 0
	for _, n := range copies {
		total += n
	}
	if total != truth.copies {
		f.add("log and rows differ", "%d copies in the log, %d rows marked duplicate", truth.copies, total)
	}
}

// usageTotals are sums over usage, as the API groups them.
type usageTotals struct {
	requests, prompt, cached, completion, reasoning uint64
	cost                                            *big.Rat
}

func (s *usageTotals) String() string {
	return fmt.Sprintf("%d requests, %d prompt (%d cached), %d completion (%d reasoning), cost %s",
		s.requests, s.prompt, s.cached, s.completion, s.reasoning, s.cost.RatString())
}

// expected is what the API has to say: the log's first event of each id.
func (tr *truth) expected() *usageTotals {
	s := &usageTotals{cost: new(big.Rat)}
	for _, u := range tr.settled {
		if !u.Retried {
			s.requests++
		}
		s.prompt += u.Tokens.Prompt()
		s.cached += u.Tokens.CacheRead
		s.completion += u.Tokens.Completion()
		s.reasoning += u.Tokens.Reasoning
		s.cost.Add(s.cost, u.Cost.Rat())
	}
	return s
}

// apiTotals adds up what GET usage says, by hour and model.
func (p *platform) apiTotals(token string) *usageTotals {
	p.t.Helper()
	var list []struct {
		Requests         uint64 `json:"requests"`
		PromptTokens     uint64 `json:"prompt_tokens"`
		CachedTokens     uint64 `json:"cached_tokens"`
		CompletionTokens uint64 `json:"completion_tokens"`
		ReasoningTokens  uint64 `json:"reasoning_tokens"`
		Cost             string `json:"cost_rmb"`
	}
	header := p.get(token, "/api/v1/obs/usage?group_by=hour,model&page_size=1000", &list)
	if behind := header.Get("X-Metering-Behind"); behind != "0" {
		p.t.Errorf("usage is said to be %q envelopes behind", behind)
	}
	s := &usageTotals{cost: new(big.Rat)}
	for _, r := range list {
		s.requests += r.Requests
		s.prompt += r.PromptTokens
		s.cached += r.CachedTokens
		s.completion += r.CompletionTokens
		s.reasoning += r.ReasoningTokens
		c, ok := new(big.Rat).SetString(r.Cost)
		if !ok {
			p.t.Fatalf("cost_rmb %q is no number", r.Cost)
		}
		s.cost.Add(s.cost, c)
	}
	return s
}
