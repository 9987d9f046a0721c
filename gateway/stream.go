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
)

const (
	readerBytes = 16 << 10
	// heldBytesMax bounds what is kept back: the opening, the finish and the usage.
	heldBytesMax = 1 << 20
)

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readerBytes) }}

// stream is the state of one relayed stream. What the tap calls opening waits for
// the first content, what it calls the end for the usage to be durable; all else
// goes to the client as soon as it is there.
type stream struct {
	x   *exchange
	out clientWriter
	in  *bufio.Reader
	tap tap

	started bool // the status line is out
	dirty   bool // written since the last flush
	gone    bool // the client cannot be written to any more
	ttftMS  uint32

	text     written // all that was read
	opening  []byte
	held     []byte
	holding  bool
	heldFrom mark // where in text the held events begin
}

// relayStream returns over if the request is answered and settled; see once.
func (x *exchange) relayStream(w http.ResponseWriter, resp *http.Response) (f failure, over bool) {
	in := readers.Get().(*bufio.Reader)
	in.Reset(resp.Body)
	defer func() { in.Reset(nil); readers.Put(in) }()
	s := &stream{x: x, out: x.clientWriter(w), in: in, tap: x.attempt.wire.tap(x.request)}
	err := s.relay()
	s.flush() // what may be seen is seen now, not when the usage is durable

	s.gone = s.gone || x.clientGone()
	if err != nil {
		f = x.failure(err)
		f.status = resp.StatusCode
		if !s.started && !s.gone {
			return f, false
		}
	}
	r := result{status: resp.StatusCode, reading: s.tap.reading(), text: &s.text, ttftMS: s.ttftMS}
	switch {
	case s.gone:
		// Who leaves is billed what the provider wrote, and we with him.
		r.outcome = events.OutcomeCancelled
		r.nothing = !s.started && s.text.bytes == 0 && r.reading.tokens == nil
	case err != nil:
		r.outcome = f.outcome
		if s.holding { // it will not be sent
			s.text.backTo(s.heldFrom)
		}
	default: // what is held goes out once this is durable
		r.outcome = events.OutcomeCompleted
		if !s.started {
			r.ttftMS = x.sinceReceivedMS()
		}
	}
	if err != nil {
		x.log().Warn("the upstream's stream failed", "upstream", x.attempt.Upstream, "outcome", r.outcome, "error", f.cause)
	}
	settleErr := x.settle(r)
	switch {
	case settleErr != nil && err == nil:
		s.fail(errNotDurable)
	case err != nil:
		s.fail(f.answer)
	default:
		s.finish()
	}
	s.out.done()
	x.brokenOff = s.gone
	return f, true
}

// relay passes events on until the stream is complete (nil) or breaks.
func (s *stream) relay() error {
	var name []byte
	for {
		if !bufferHasLine(s.in) { // the next read may wait
			s.flush()
		}
		line, err := s.readLine()
		if errors.Is(err, io.EOF) && s.tap.ended() {
			return nil
		}
		if err != nil {
			return err
		}
		if data, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			data = bytes.TrimSpace(data)
			if len(data) == 0 { // some providers' keep-alive
				continue
			}
			done, err := s.event(name, data)
			if err != nil || done {
				return err
			}
			name = name[:0]
			continue
		}
		if of, ok := bytes.CutPrefix(line, []byte("event:")); ok {
			name = append(name[:0], bytes.TrimSpace(of)...)
			continue
		}
		s.comment(line)
	}
}

func bufferHasLine(r *bufio.Reader) bool {
	b, _ := r.Peek(r.Buffered()) // no more than is there, so it cannot fail
	return bytes.IndexByte(b, '\n') >= 0
}

// errEnded is a body that came to its end.
var errEnded = fmt.Errorf("the stream ended too early: %w", io.EOF)

// readLine returns the next line without its end; valid until the next call. A
// body that ends is errEnded, which is also io.EOF; one that breaks off is not.
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
			return nil, errEnded
		default:
			return nil, fmt.Errorf("read the stream: %w", err)
		}
	}
}

// event relays one event, holds it back, or leaves it out; done ends the stream.
func (s *stream) event(name, data []byte) (done bool, err error) {
	before := s.text.mark()
	seen, err := s.tap.event(name, data, &s.text)
	if err != nil {
		s.text.backTo(before)
		return false, err
	}
	switch {
	case s.holding || seen.stage == stageEnd:
		if !s.holding {
			s.holding, s.heldFrom = true, before
		}
		s.held = append(s.held, seen.out...)
	case seen.stage == stageOpening:
		s.opening = append(s.opening, seen.out...)
	case len(seen.out) > 0:
		s.send(seen.out)
	}
	// The finish may come with content, such as a picture, so one whole event more.
	if limit := heldBytesMax + s.x.gateway.config.EventBytesMax; len(s.held)+len(s.opening) > limit {
		return false, fmt.Errorf("%w: more than %d bytes around the content", errGarbage, limit)
	}
	return seen.done, nil
}

// start sends the status line; the admission is durable by now.
func (s *stream) start() {
	h := s.out.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-cache, no-store")
	h.Set("X-Accel-Buffering", "no") // a proxy in front must not collect events
	s.started = true
	if s.ttftMS == 0 {
		s.ttftMS = s.x.sinceReceivedMS()
	}
}

// send writes an event to the client, after the opening.
func (s *stream) send(event []byte) {
	s.x.attempt.report(nil) // the upstream answers
	if s.gone || s.x.clientGone() {
		s.gone = true
		return
	}
	if !s.started {
		s.start()
	}
	if !s.dirty {
		s.out.extend()
		s.dirty = true
	}
	if len(s.opening) > 0 {
		event = append(s.opening, event...)
		s.opening = nil
	}
	if _, err := s.out.Write(event); err != nil {
		s.lose()
	}
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
	for _, part := range [][]byte{s.opening, s.held, []byte(s.tap.tail(s.x.billed))} {
		_, _ = s.out.Write(part) // settled: a client that is gone changes nothing
	}
	_ = s.out.flush()
}

// fail ends the answer in an error, and without what ends a good one.
func (s *stream) fail(e *apiError) {
	switch {
	case s.gone:
	case !s.started:
		writeError(s.out, s.x.client, e)
	default:
		s.out.extend()
		_, _ = s.out.Write(s.x.client.appendError(nil, e))
		_ = s.out.flush()
	}
}
