package analytics

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/shopspring/decimal"

	"aione/events"
)

// placed is an event where the log has it.
type placed struct {
	seq uint64
	idx int
	events.Usage
}

// body is what an event bills, as text: an own idea of when two are the same.
func body(u events.Usage) string {
	at := "on receipt"
	if !u.TimeAssigned {
		at = u.OccurredAt.String()
	}
	return fmt.Sprint(u.TeamID, u.KeyID, u.Model, at, u.Tokens, u.Images, u.Outcome, u.Sandbox)
}

// oracle is a naive model of what the rows must say: a map of what came first.
type oracle struct {
	first        map[events.UsageKey]string
	all          []events.Usage // every readable event ever published, to copy from
	counted      []placed
	dispositions map[string]uint64
	rows         uint64
	seq          uint64
}

func newOracle() *oracle {
	return &oracle{first: map[events.UsageKey]string{}, dispositions: map[string]uint64{}}
}

// frame is an event of an envelope; nil usage: bytes that cannot be read.
type frame struct {
	usage *events.Usage
	bytes []byte
}

func readable(u events.Usage) frame { return frame{usage: &u, bytes: events.AppendUsage(nil, &u)} }

// envelope takes note of one message of the log; none of its frames can be read
// when it is damaged as a whole.
func (o *oracle) envelope(damaged bool, frames ...frame) {
	o.seq++
	if damaged {
		o.put("undecodable")
		return
	}
	for i, f := range frames {
		if f.usage == nil {
			o.put("undecodable")
			continue
		}
		u := *f.usage
		o.all = append(o.all, u)
		key := events.UsageKey{OrgID: u.OrgID, ID: u.ID}
		first, ok := o.first[key]
		switch {
		case ok && first == body(u):
			o.put("duplicate")
		case ok:
			o.put("conflict")
		case u.Sandbox:
			o.put("sandbox")
			o.first[key] = body(u)
		default:
			o.put("counted")
			o.first[key] = body(u)
			o.counted = append(o.counted, placed{o.seq, i, u})
		}
	}
}

func (o *oracle) put(disposition string) {
	o.dispositions[disposition]++
	o.rows++
}

func (o *oracle) usages() []events.Usage {
	us := make([]events.Usage, len(o.counted))
	for i, p := range o.counted {
		us[i] = p.Usage
	}
	return us
}

// chaos makes events and their copies; permille of the frames are copies.
type chaos struct {
	*usageGen
	oracle   *oracle
	permille int
}

// next is a new event, spread over two months.
func (c *chaos) next() events.Usage {
	u := c.usageGen.next()
	u.OccurredAt = time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(c.rand.IntN(59*24*3600*1000)) * time.Millisecond)
	u.Outcome = events.Outcome(1 + c.rand.IntN(5))
	u.HTTPStatus = []uint16{200, 200, 429, 502}[c.rand.IntN(4)]
	u.PriceVersion = fmt.Sprintf("%s@%d", u.Model, 1+c.rand.IntN(2))
	u.TimeAssigned = c.rand.IntN(10) == 0
	u.Tokens.Reasoning, u.Images = uint64(c.rand.IntN(50)), uint64(c.rand.IntN(3))
	if c.rand.IntN(20) == 0 {
		u.Sandbox, u.Cost = true, decimal.Zero
	}
	if c.rand.IntN(10) == 0 { // brought the client nothing
		u.Tokens, u.Images, u.Cost = events.Tokens{}, 0, decimal.Zero
		u.Retried = c.rand.IntN(2) == 0
	}
	return u
}

// copyOf is an honest copy or, now and then, another body under the same id.
func (c *chaos) copyOf(u events.Usage) events.Usage {
	switch c.rand.IntN(6) {
	case 0: // a conflict
		u.Retried = false // with something in it, it cannot be
		switch c.rand.IntN(3) {
		case 0:
			u.Tokens.Output++
		case 1:
			u.Model += "-turbo"
		default:
			u.Outcome = events.Outcome(1 + u.Outcome%5)
		}
	case 1: // priced and measured anew: still a copy
		u.Retried = false
		if !u.Sandbox {
			u.Cost = u.Cost.Add(decimal.New(1, -9))
		}
		u.LatencyMS++
		u.PriceVersion += "'"
	case 2: // received later: a copy if the time is ours, another body if it is theirs
		u.OccurredAt = u.OccurredAt.Add(time.Hour)
	}
	return u
}

// envelope makes the frames of one message.
func (c *chaos) envelope() []frame {
	var frames []frame
	for range 1 + c.rand.IntN(30) {
		switch n := c.rand.IntN(1000); {
		case n < c.permille && len(frames) > 0 && frames[len(frames)-1].usage != nil && c.rand.IntN(3) == 0:
			frames = append(frames, readable(c.copyOf(*frames[len(frames)-1].usage))) // in the same envelope
		case n < c.permille && len(c.oracle.all) > 0:
			all := c.oracle.all
			if c.rand.IntN(2) == 0 { // of late; else of any time
				all = all[max(0, len(all)-40):]
			}
			frames = append(frames, readable(c.copyOf(all[c.rand.IntN(len(all))])))
		case n >= 995:
			frames = append(frames, frame{bytes: newer(c.next())})
		case n >= 990:
			frames = append(frames, frame{bytes: readable(c.next()).bytes[:1+c.rand.IntN(20)]}) // cut short within its ids
		default:
			frames = append(frames, readable(c.next()))
		}
	}
	return frames
}

// publish appends n messages to the log and to the oracle.
func (c *chaos) publish(r *rig, n int) {
	for range n {
		frames := c.envelope()
		var parts [][]byte
		for _, f := range frames {
			parts = append(parts, f.bytes)
		}
		message := seal(parts...)
		damaged := c.rand.IntN(60) == 0
		if damaged {
			message[len(message)-1-c.rand.IntN(len(message)-1)] ^= 0x55
		}
		r.publishRaw(message)
		c.oracle.envelope(damaged, frames...)
	}
}

func newChaos(seed uint64, permille int) *chaos {
	g := newUsageGen(seed, 5, time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC))
	g.rand = rand.New(rand.NewPCG(seed, uint64(permille)))
	return &chaos{usageGen: g, oracle: newOracle(), permille: permille}
}
