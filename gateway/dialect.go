package gateway

import (
	"fmt"
	"net/http"

	"aione/events"
)

// Dialect is the API that an upstream speaks.
type Dialect string

// The dialects. An upstream without one speaks OpenAI's.
const (
	DialectOpenAI    Dialect = "openai"    // POST …/chat/completions
	DialectAnthropic Dialect = "anthropic" // POST …/messages
	DialectGemini    Dialect = "gemini"    // POST …/models/<model>:generateContent
	DialectAny       Dialect = "any"       // all of them below one base URL, as the simulated provider does
)

// client is a dialect from the client's side: how requests are read, and how
// errors are told.
type client interface {
	dialect() Dialect
	// secret is the API key a request carries; empty if none.
	secret(r *http.Request) string
	// parse finds what the gateway needs in one pass that also checks the body.
	parse(r *http.Request, body []byte) (*request, *apiError)
	// errorBody is an error as the whole of an answer.
	errorBody(e *apiError) []byte
	// appendError appends an error as the last event of a stream.
	appendError(b []byte, e *apiError) []byte
}

// wire is how requests of one dialect are put to upstreams of one dialect, and
// how their answers are read on the way back: passed through, or translated.
type wire interface {
	// upstream is the dialect of the other side.
	upstream() Dialect
	// call is what is sent: a path below the base URL, the body and, in h, the key
	// and what else the dialect wants.
	call(q *request, u Upstream, h http.Header) (path string, body []byte, err error)
	// plain reads a whole answer. out is the answer for the client.
	plain(q *request, body []byte, text *written) (out []byte, r reading, err error)
	// tap reads one stream, event by event.
	tap(q *request) tap
}

// tap is the state of one upstream stream.
type tap interface {
	// event reads one event; name is empty if it has none. Text goes to text.
	event(name, data []byte, text *written) (seen, error)
	// ended reports whether a stream that ends here is complete.
	ended() bool
	// reading is what the stream has told of its usage so far.
	reading() reading
	// tail is what ends the client's stream, once everything is settled: used is
	// what is billed.
	tail(used events.Tokens) string
}

// teller is a wire whose plain answers tell what is billed, once it is settled.
type teller interface {
	tell(out []byte, used events.Tokens) []byte
}

// stage is where an event stands in its stream.
type stage uint8

const (
	stageContent stage = iota // goes to the client at once
	stageOpening              // goes out with the first content: before it, another upstream may still serve
	stageEnd                  // the finish and the usage: held back, with all that follows, until the usage is durable
)

// seen is what became of an event.
type seen struct {
	stage stage
	out   []byte // for the client, with its framing, valid until the next event; empty for nothing
	done  bool   // the stream is complete; nothing after it is read
}

// reading is what an answer tells of its usage.
type reading struct {
	tokens *events.Tokens // the provider's final figures, if they came and can be true
	prompt *events.Tokens // the provider's figures for the prompt alone, if only they came
	doubt  error          // why figures that came are not believed
	images uint64
}

// believe keeps figures or the reason against them.
func (r *reading) believe(t events.Tokens, err error) {
	r.tokens, r.doubt = &t, err
	if err != nil {
		r.tokens = nil
	}
}

// wires are the ways from a client's dialect to an upstream's: its own passes
// through, OpenAI's is translated, and the others are by way of OpenAI's.
var wires = map[Dialect][]wire{
	DialectOpenAI:    {openAIWire{}, toAnthropic{}, toGemini{}},
	DialectAnthropic: {anthropicWire{}, via{openAIWire{}, anthropicSpeaker{}}, via{toGemini{}, anthropicSpeaker{}}},
	DialectGemini:    {geminiWire{}, via{openAIWire{}, geminiSpeaker{}}, via{toAnthropic{}, geminiSpeaker{}}},
}

// wireTo finds the way from a client's dialect to an upstream's.
func wireTo(client, upstream Dialect) wire {
	if upstream == DialectAny {
		upstream = client
	}
	for _, w := range wires[client] {
		if w.upstream() == upstream {
			return w
		}
	}
	return nil
}

func (d Dialect) check() error {
	switch d {
	case DialectOpenAI, DialectAnthropic, DialectGemini, DialectAny:
		return nil
	default:
		return fmt.Errorf("dialect %q is none of openai, anthropic, gemini and any", string(d))
	}
}

// appendEvent appends an event of a stream; most have no name.
func appendEvent(b, name, data []byte) []byte {
	if len(name) > 0 {
		b = append(append(append(b, "event: "...), name...), '\n')
	}
	return append(append(append(b, "data: "...), data...), "\n\n"...)
}
