package gateway

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"aione/events"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// errFailedInside is returned when an upstream reports an error inside an answer
// that began with status 200.
var errFailedInside = errors.New("the upstream reports an error inside its answer")

const (
	readerBytes = 16 << 10
	// heldBytesMax bounds what is kept back: the finish and the usage.
	heldBytesMax = 1 << 20
)

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readerBytes) }}

// stream is the state of one relayed stream.
//
// An event goes to the client as soon as it is there, until the answer is
// finished: from the last finish_reason or the usage on, everything is held back
// until the usage event is durable.
type stream struct {
	x   *exchange
	out clientWriter
	in  *bufio.Reader

	started   bool // the status line is out
	dirty     bool // written since the last flush
	gone      bool // the client cannot be written to any more
	textBytes int  // of the text that went to the client
	ttftMS    uint32

	finishes  int
	held      []byte
	heldBytes int // of the text in held

	usageSeen bool
	reported  *events.Tokens
}

func (x *exchange) relayStream(w http.ResponseWriter, resp *http.Response) {
	in := readers.Get().(*bufio.Reader)
	in.Reset(resp.Body)
	defer func() { in.Reset(nil); readers.Put(in) }()
	s := &stream{x: x, out: x.clientWriter(w), in: in}
	err := s.relay()
	s.flush() // what may be seen is seen now, not when the usage is durable

	r := result{status: resp.StatusCode, reported: s.reported, textBytes: s.textBytes, ttftMS: s.ttftMS, nothing: !s.started}
	s.gone = s.gone || x.clientGone()
	var f failure
	switch {
	case err != nil:
		f = x.failure(err)
		if s.gone {
			f.outcome = events.OutcomeCancelled
		}
		if r.outcome = f.outcome; r.nothing && r.outcome != events.OutcomeCancelled {
			r.reported = nil // who received nothing through no fault of his pays nothing
		}
		x.log().Warn("the upstream's stream failed", "upstream", x.upstream, "outcome", f.outcome, "error", f.cause)
	case s.gone:
		r.outcome = events.OutcomeCancelled
	default: // what is held goes out once this is durable
		r.outcome = events.OutcomeCompleted
		r.textBytes, r.nothing = r.textBytes+s.heldBytes, false
		if !s.started {
			r.ttftMS = x.sinceReceivedMS()
		}
	}
	settleErr := x.settle(r)
	switch {
	case settleErr != nil && f.answer == nil:
		s.fail(errNotDurable)
	case err != nil:
		s.fail(f.answer)
	default:
		s.finish()
	}
	s.out.done()
}

// relay passes events on until [DONE] (nil) or until the stream breaks.
func (s *stream) relay() error {
	for {
		if !bufferHasLine(s.in) { // the next read may wait
			s.flush()
		}
		line, err := s.readLine()
		if err != nil {
			return err
		}
		data, isData := bytes.CutPrefix(line, []byte("data:"))
		if !isData {
			s.comment(line)
			continue
		}
		data = bytes.TrimSpace(data)
		if string(data) == "[DONE]" {
			return nil
		}
		if len(data) == 0 { // some providers' keep-alive
			continue
		}
		if err := s.event(data); err != nil {
			return err
		}
	}
}

func bufferHasLine(r *bufio.Reader) bool {
	b, _ := r.Peek(r.Buffered()) // no more than is there, so it cannot fail
	return bytes.IndexByte(b, '\n') >= 0
}

// readLine returns the next line without its end; valid until the next call. A
// stream that ends before [DONE] is io.ErrUnexpectedEOF, however it ends.
func (s *stream) readLine() ([]byte, error) {
	var long []byte
	for {
		part, err := s.in.ReadSlice('\n')
		if len(part) > 0 {
			s.x.progress()
		}
		switch {
		case err == nil && long == nil:
			return bytes.TrimRight(part, "\r\n"), nil
		case err == nil:
			return bytes.TrimRight(append(long, part...), "\r\n"), nil
		case errors.Is(err, bufio.ErrBufferFull):
			if len(long)+len(part) > s.x.gateway.config.EventBytesMax {
				return nil, fmt.Errorf("%w: an event of more than %d bytes", errGarbage, s.x.gateway.config.EventBytesMax)
			}
			long = append(long, part...)
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("the stream ended before [DONE]: %w", io.ErrUnexpectedEOF)
		default:
			return nil, fmt.Errorf("read the stream: %w", err)
		}
	}
}

// event relays one chunk, holds it back, or leaves it out.
func (s *stream) event(data []byte) error {
	if len(data) < 2 || data[0] != '{' || data[len(data)-1] != '}' {
		return fmt.Errorf("%w: an event that is no JSON object", errGarbage)
	}
	scan := scanChunk(data)
	bare := false
	if scan.usage || scan.failure {
		var err error
		if bare, err = s.inspect(data); err != nil {
			return err
		}
	}
	if bare && !s.x.request.includeUsage {
		return nil
	}
	s.finishes += scan.finishes
	if s.usageSeen || s.finishes >= s.x.request.choices {
		if len(s.held)+len(data) > heldBytesMax {
			return fmt.Errorf("%w: more than %d bytes follow the finish", errGarbage, heldBytesMax)
		}
		s.held = appendEvent(s.held, data)
		s.heldBytes += scan.textBytes
		return nil
	}
	s.textBytes += s.send(data, scan.textBytes)
	return nil
}

// inspect decodes a chunk that may hold usage or an error. bare is true for the
// chunk that carries usage and nothing else.
func (s *stream) inspect(data []byte) (bare bool, err error) {
	var c struct {
		Choices []jsontext.Value `json:"choices"`
		Usage   jsontext.Value   `json:"usage"`
		Error   jsontext.Value   `json:"error"`
	}
	if err := json.Unmarshal(data, &c, lenient); err != nil {
		return false, fmt.Errorf("%w: %s", errGarbage, jsonProblem(err))
	}
	if c.Error.Kind() == '{' {
		return false, errFailedInside
	}
	if c.Usage.Kind() != '{' {
		return false, nil
	}
	// The last usage counts: some providers send a running total.
	s.reported = s.x.believe(c.Usage)
	bare = len(c.Choices) == 0
	s.usageSeen = s.usageSeen || bare
	return bare, nil
}

// start sends the status line; the admission is durable by now.
func (s *stream) start() {
	h := s.out.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // a proxy in front must not collect events
	s.started = true
	if s.ttftMS == 0 {
		s.ttftMS = s.x.sinceReceivedMS()
	}
}

// send writes an event to the client and returns textBytes if it took it, else 0:
// text is counted only while somebody receives it.
func (s *stream) send(data []byte, textBytes int) int {
	if s.gone || s.x.clientGone() {
		s.gone = true
		return 0
	}
	if !s.started {
		s.start()
	}
	if !s.dirty {
		s.out.extend()
		s.dirty = true
	}
	for _, part := range [...][]byte{[]byte("data: "), data, []byte("\n\n")} {
		if _, err := s.out.Write(part); err != nil {
			s.lose()
			return 0
		}
	}
	return textBytes
}

// comment passes a keep-alive on, once there is a stream to keep alive.
func (s *stream) comment(line []byte) {
	if len(line) == 0 || line[0] != ':' || !s.started || s.gone {
		return
	}
	if !s.dirty {
		s.out.extend()
		s.dirty = true
	}
	if _, err := s.out.Write(append(bytes.Clone(line), "\n\n"...)); err != nil {
		s.lose()
	}
}

func (s *stream) flush() {
	if !s.dirty || s.gone {
		return
	}
	s.dirty = false
	if err := s.out.flush(); err != nil {
		s.lose()
	}
	s.x.progress() // a slow client's time is not the upstream's silence
}

// lose notes that the client is gone; the upstream is read on, within Drain.
func (s *stream) lose() {
	s.gone = true
	s.x.clientLeft()
}

// finish sends what was held back and ends the answer.
func (s *stream) finish() {
	if s.gone {
		return
	}
	if !s.started {
		s.start()
	}
	s.out.extend()
	_, _ = s.out.Write(append(s.held, "data: [DONE]\n\n"...)) // settled: a client that is gone changes nothing
	_ = s.out.flush()
}

// fail ends the answer in an error, without [DONE].
func (s *stream) fail(e *apiError) {
	switch {
	case s.gone:
	case !s.started:
		writeError(s.out, e)
	default:
		s.out.extend()
		_, _ = s.out.Write(appendEvent(nil, e.body()))
		_ = s.out.flush()
	}
}

func appendEvent(b, data []byte) []byte {
	return append(append(append(b, "data: "...), data...), "\n\n"...)
}
