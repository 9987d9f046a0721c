package analytics

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// fault is what becomes of the next INSERT on its way.
type fault int32

const (
	none       fault = iota
	cutBody          // its body breaks off
	loseAnswer       // it is done, and the answer is lost
	emptyBody        // it arrives without rows and is answered as done
	stallBody        // half of its body arrives, the rest when resume is closed
)

// faulty stands between a store and its ClickHouse.
type faulty struct {
	*httptest.Server
	next   atomic.Int32
	hits   atomic.Int32
	resume chan struct{}
}

// newFaulty gives the rig a store whose INSERTs can fail on their way.
func newFaulty(t testing.TB, r *rig) (*Store, *faulty) {
	t.Helper()
	target, err := url.Parse(r.engines.DSN)
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{resume: make(chan struct{})}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		what := none
		if strings.HasPrefix(q.URL.Query().Get("query"), "INSERT INTO usage_events") {
			what = fault(f.next.Swap(int32(none)))
		}
		if what != none {
			f.hits.Add(1)
		}
		f.forward(w, q, target.Host, what)
	}))
	t.Cleanup(f.Close)
	address, err := url.Parse(f.URL)
	if err != nil {
		t.Fatal(err)
	}
	store, err := Open(r.ctx, "http://"+address.Host+"/"+r.engines.Database, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store, f
}

var errCut = errors.New("the test cuts the body here")

func (f *faulty) forward(w http.ResponseWriter, q *http.Request, host string, what fault) {
	out := q.Clone(q.Context())
	out.RequestURI, out.URL.Scheme, out.URL.Host, out.Host = "", "http", host, host
	switch what {
	case cutBody:
		whole, _ := io.ReadAll(q.Body) // a body cut by us is the point
		out.ContentLength = int64(len(whole))
		out.Body = io.NopCloser(io.MultiReader(bytes.NewReader(whole[:len(whole)/2]), failingReader{}))
	case stallBody:
		whole, _ := io.ReadAll(q.Body)
		out.ContentLength = int64(len(whole))
		out.Body = io.NopCloser(io.MultiReader(bytes.NewReader(whole[:len(whole)/2]), waitingReader(f.resume), bytes.NewReader(whole[len(whole)/2:])))
	case emptyBody:
		w.WriteHeader(http.StatusOK)
		return
	}
	answer, err := http.DefaultTransport.RoundTrip(out)
	if err != nil || what == loseAnswer {
		if err == nil {
			io.Copy(io.Discard, answer.Body) // to its end: it is done
			answer.Body.Close()
		}
		panic(http.ErrAbortHandler)
	}
	defer answer.Body.Close()
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.StatusCode)
	if _, err := io.Copy(w, answer.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errCut }

// waitingReader is empty, but only once the channel is closed.
type waitingReader chan struct{}

func (w waitingReader) Read([]byte) (int, error) {
	<-w
	return 0, io.EOF
}
