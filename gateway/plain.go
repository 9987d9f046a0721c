package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"aione/events"

	"github.com/go-json-experiment/json/jsontext"
)

// answers are the buffers of plain ones.
var answers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// answerKeptMax is the largest buffer that is used again.
const answerKeptMax = 256 << 10

// relayPlain holds the whole answer back until its usage is durable. That says all
// that the admission does and more, so nobody waits for the admission too; it gets
// to the log by itself. If over, the request is answered and settled; see once.
func (x *exchange) relayPlain(w http.ResponseWriter, resp *http.Response) (f failure, over bool) {
	b := answers.Get().(*bytes.Buffer)
	defer func() {
		if b.Cap() <= answerKeptMax {
			b.Reset()
			answers.Put(b)
		}
	}()
	body, err := x.readAnswer(b, resp)
	if err == nil {
		err = context.Cause(x.watch.ctx) // the admission may have failed
	}
	r := result{status: resp.StatusCode, text: &written{}}
	if err == nil {
		body, r.reading, err = x.attempt.wire.plain(x.request, body, r.text)
	}
	if err != nil {
		f := x.failure(err)
		f.status = resp.StatusCode
		return f, false
	}
	r.ttftMS = x.sinceReceivedMS()
	r.outcome = events.OutcomeCompleted
	if x.clientGone() {
		r.outcome = events.OutcomeCancelled
	}
	if err := x.settle(r); err != nil {
		writeError(w, x.client, errNotDurable)
		return failure{}, true
	}
	if t, ok := x.attempt.wire.(teller); ok {
		body = t.tell(body, x.billed)
	}
	x.writePlain(w, body)
	return failure{}, true
}

// writePlain sends a settled answer: a client that is gone changes nothing now.
func (x *exchange) writePlain(w http.ResponseWriter, body []byte) {
	out := x.clientWriter(w)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
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
func (x *exchange) readAnswer(b *bytes.Buffer, resp *http.Response) ([]byte, error) {
	limit := x.gateway.config.AnswerBytesMax
	if resp.ContentLength > limit {
		return nil, fmt.Errorf("%w: an answer of %d bytes", errGarbage, resp.ContentLength)
	}
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
