package embedded

import (
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// answerHoldBytes is held back so that most failing queries still get a
	// status of their own instead of a broken answer.
	answerHoldBytes = 256 << 10

	insertChunkBytes = 1 << 20

	insertSilenceMax = time.Minute
)

// runStream passes a SELECT's chunks on as they come; the child holds one
// chunk of the answer at a time.
func (f *front) runStream(ctx context.Context, w http.ResponseWriter, s *session, q *query) error {
	st, err := s.stream(q.sql, q.format, q.params)
	if err != nil {
		var ex *exception
		if errors.As(err, &ex) && ex.code == codeBadArguments && strings.Contains(ex.text, "Streaming query is not supported") {
			return f.runWhole(ctx, w, s, q)
		}
		return err
	}
	defer st.close()
	w.Header().Set("X-ClickHouse-Format", q.format)
	tag := rand.Text()[:16]
	w.Header().Set("X-ClickHouse-Exception-Tag", tag)
	held := make([]byte, 0, 4<<10)
	for begun := false; ; {
		chunk, err := st.next()
		if err != nil {
			if begun {
				breakOff(w, err, tag)
			}
			return err
		}
		data := chunk.bytes()
		if len(data) == 0 {
			chunk.free()
			// Rather an error too many than a killed query's rows as if whole.
			if ctx.Err() == nil {
				w.Write(held)
				return nil
			}
			if begun {
				breakOff(w, errCancelled(), tag)
			}
			return errCancelled()
		}
		if !begun && len(held)+len(data) <= answerHoldBytes {
			held = append(held, data...)
			chunk.free()
			continue
		}
		begun = true
		_, err = w.Write(held)
		held = held[:0]
		if err == nil {
			_, err = w.Write(data)
		}
		chunk.free()
		if err != nil || ctx.Err() != nil {
			// The client is gone, or the query was killed: never a proper end.
			breakOff(w, errCancelled(), tag)
		}
	}
}

// breakOff ends a begun answer so that no client takes it for complete: the
// exception in ClickHouse's frame, then a cut connection.
func breakOff(w http.ResponseWriter, err error, tag string) {
	text := err.Error()
	fmt.Fprintf(w, "\r\n__exception__\r\n%s\r\n%s\n%d %s\r\n__exception__\r\n", tag, text, len(text)+1, tag)
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// runWhole runs a statement whose answer is small: DDL, INSERT with inline
// data, SHOW, formats with a beginning and an end.
func (f *front) runWhole(ctx context.Context, w http.ResponseWriter, s *session, q *query) error {
	if n := s.statements(q.sql); n > 1 {
		return exceptionf(codeSyntaxError, "SYNTAX_ERROR", "Multi-statements are not allowed")
	}
	r := s.query(q.sql, q.format, q.params)
	defer r.free()
	if err := r.err(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errCancelled() // whoever killed it must not see it succeed
	}
	w.Header().Set("X-ClickHouse-Format", q.format)
	w.Header().Set("X-ClickHouse-Summary", r.summary())
	// No Content-Length: the end of the answer must not reach the client before
	// the query id is free again.
	w.Write(r.bytes())
	return nil
}

func (r result) summary() string {
	text, _ := json.Marshal(map[string]string{ // strings always marshal
		"read_rows":     strconv.FormatUint(r.lib.resultRowsRead(r.handle), 10),
		"read_bytes":    strconv.FormatUint(r.lib.resultBytesRead(r.handle), 10),
		"written_rows":  strconv.FormatUint(r.lib.resultRowsWritten(r.handle), 10),
		"written_bytes": strconv.FormatUint(r.lib.resultBytesWritten(r.handle), 10),
	})
	return string(text)
}

var insertChunks = sync.Pool{New: func() any { return new([insertChunkBytes]byte) }}

// runInsert feeds the body to the engine as it arrives and commits at its
// proper end. A body that breaks off inserts nothing.
func (f *front) runInsert(ctx context.Context, w http.ResponseWriter, r *http.Request, s *session, q *query) error {
	in, err := s.insert(q.sql, q.insertFormat, q.params)
	if err != nil {
		return err
	}
	defer in.free()
	body := &patientBody{ctx: ctx, body: r.Body, control: http.NewResponseController(w)}
	bytes, err := feed(in, body)
	if err == nil && bytes == 0 {
		err = exceptionf(codeNoDataToInsert, "NO_DATA_TO_INSERT", "The INSERT came without data")
	}
	if err == nil && ctx.Err() != nil {
		err = exceptionf(codeCancelled, "QUERY_WAS_CANCELLED", "The INSERT was cancelled before its commit")
	}
	if err != nil {
		in.cancel()
		return err
	}
	done := in.finish()
	defer done.free()
	if err := done.err(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		// The kill met the commit. Whoever killed it must not see it succeed.
		return exceptionf(codeCancelled, "QUERY_WAS_CANCELLED", "The INSERT was cancelled during its commit; read back what it wrote")
	}
	w.Header().Set("X-ClickHouse-Summary", done.summary())
	return nil
}

// patientBody gives up on a client that sends nothing for insertSilenceMax: it
// holds a session that others wait for.
type patientBody struct {
	ctx     context.Context
	body    io.Reader
	control *http.ResponseController
}

func (b *patientBody) Read(p []byte) (int, error) {
	// The order matters: a kill that comes after the check sets its own
	// deadline after this one.
	b.control.SetReadDeadline(time.Now().Add(insertSilenceMax))
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.body.Read(p)
	if err == io.EOF {
		// From here on the server reads ahead to notice a client that leaves;
		// a deadline would look like one during a long commit.
		b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// feed returns nil only after the body's proper end.
func feed(in insert, body io.Reader) (int64, error) {
	chunk := insertChunks.Get().(*[insertChunkBytes]byte)
	defer insertChunks.Put(chunk)
	var total int64
	for filled := 0; ; {
		n, err := body.Read(chunk[filled:])
		filled += n
		total += int64(n)
		// Few large chunks: each costs the engine a queue entry and a copy.
		if filled == len(chunk) || err == io.EOF && filled > 0 {
			if !in.append(chunk[:filled]) {
				return total, in.failure()
			}
			filled = 0
		}
		switch {
		case err == io.EOF:
			return total, nil
		case err != nil:
			return total, exceptionf(codeCannotReadData, "CANNOT_READ_ALL_DATA", "The INSERT's body broke off after %d bytes: %v", total, err)
		}
	}
}

// failure is why the engine stopped reading.
func (in insert) failure() error {
	r := in.finish()
	defer r.free()
	if err := r.err(); err != nil {
		return err
	}
	return exceptionf(codeUnknownException, "UNKNOWN_EXCEPTION", "The engine stopped reading the INSERT")
}

// decodedBody undoes the Content-Encoding.
func decodedBody(r *http.Request) (io.ReadCloser, error) {
	var decoded io.ReadCloser
	var err error
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
		return r.Body, nil
	case "gzip":
		decoded, err = gzip.NewReader(r.Body)
	case "deflate":
		decoded, err = zlib.NewReader(r.Body)
	default:
		return nil, exceptionf(codeNotImplemented, "NOT_IMPLEMENTED", "Content-Encoding %q is not supported by the embedded ClickHouse", encoding)
	}
	if err != nil {
		return nil, exceptionf(codeCannotReadData, "CANNOT_READ_ALL_DATA", "Cannot decompress the body: %v", err)
	}
	return decoded, nil
}
