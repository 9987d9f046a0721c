package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"aione/events"

	"github.com/go-json-experiment/json/jsontext"
)

// relayPlain holds the whole answer back until its usage is durable.
func (x *exchange) relayPlain(w http.ResponseWriter, resp *http.Response) {
	body, err := x.readAnswer(resp)
	var r result
	if err == nil {
		r, err = x.readResult(body)
	}
	r.status = resp.StatusCode
	if err != nil {
		x.fail(w, x.failure(err), result{nothing: true, status: r.status})
		return
	}
	r.ttftMS = x.sinceReceivedMS()
	r.outcome = events.OutcomeCompleted
	if x.clientGone() {
		r.outcome = events.OutcomeCancelled
	}
	if err := x.settle(r); err != nil {
		writeError(w, errNotDurable)
		return
	}
	out := x.clientWriter(w)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	// It is settled: a client that is gone changes nothing now.
	for err := error(nil); len(body) > 0 && err == nil; {
		n := min(len(body), writeBytesMax)
		out.extend()
		_, err = w.Write(body[:n])
		body = body[n:]
	}
	_ = out.flush()
	out.done()
}

// writeBytesMax is what one Timeouts.Write is given for.
const writeBytesMax = 256 << 10

// lenient is how answers are read: a provider that breaks a rule of JSON which
// bills nobody wrongly is not worth failing a paid answer for.
var lenient = jsontext.AllowInvalidUTF8(true)

// readAnswer reads the body of a plain answer, each piece within Idle.
func (x *exchange) readAnswer(resp *http.Response) ([]byte, error) {
	limit := x.gateway.config.AnswerBytesMax
	if resp.ContentLength > limit {
		return nil, fmt.Errorf("%w: an answer of %d bytes", errGarbage, resp.ContentLength)
	}
	var b bytes.Buffer
	b.Grow(int(min(max(resp.ContentLength, 4096), 1<<20)) + bytes.MinRead)
	_, err := b.ReadFrom(io.LimitReader(progressReader{resp.Body, x}, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if int64(b.Len()) > limit {
		return nil, fmt.Errorf("%w: an answer of more than %d bytes", errGarbage, limit)
	}
	return b.Bytes(), nil
}

// progressReader keeps the watch on silence going.
type progressReader struct {
	r io.Reader
	x *exchange
}

func (p progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if n > 0 {
		p.x.progress()
	}
	return n, err
}

// readResult checks that the whole body is one answer and finds its usage.
func (x *exchange) readResult(body []byte) (result, error) {
	var usage, failed, choices span
	_, err := eachMember(body, 0, func(name string, at span) {
		switch name {
		case "usage":
			usage = at
		case "error":
			failed = at
		case "choices":
			choices = at
		}
	}, lenient)
	switch {
	case err != nil:
		return result{}, fmt.Errorf("%w: %s", errGarbage, jsonProblem(err))
	case !failed.empty() && body[failed.from] == '{':
		return result{}, errFailedInside
	case choices.empty() || body[choices.from] != '[':
		return result{}, fmt.Errorf("%w: no choices", errGarbage)
	}
	r := result{textBytes: scanChunk(body[choices.from:choices.to]).textBytes}
	if !usage.empty() && body[usage.from] == '{' {
		r.reported = x.believe(body[usage.from:usage.to])
	}
	return r, nil
}

// believe parses reported usage; nil if it cannot be true.
func (x *exchange) believe(raw jsontext.Value) *events.Tokens {
	tokens, err := parseUsage(raw)
	if err != nil {
		x.log().Warn("the upstream's usage is not believed, an estimate is billed", "upstream", x.upstream, "error", err)
		return nil
	}
	return &tokens
}

// clientWriter writes to the client, each time within Timeouts.Write.
type clientWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	within  time.Duration
}

func (x *exchange) clientWriter(w http.ResponseWriter) clientWriter {
	return clientWriter{w, http.NewResponseController(w), x.timeouts.Write}
}

// extend gives the coming write its time. A socket's deadline is on the real
// clock, whatever Config.Now says; a writer without deadlines has none to miss.
func (c clientWriter) extend() { _ = c.control.SetWriteDeadline(time.Now().Add(c.within)) }

func (c clientWriter) flush() error { return c.control.Flush() }

// done takes the deadline off the connection, which may serve another request.
func (c clientWriter) done() { _ = c.control.SetWriteDeadline(time.Time{}) }
