package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// front serves ClickHouse's HTTP interface over the engine. Each request gets a
// session of its own (0.3 ms), so that settings, SET and temporary tables of
// one request cannot reach another.
type front struct {
	engine  *engine
	slots   chan struct{} // one for each statement that may run at once
	running registry
}

func newFront(e *engine, sessions int) *front {
	return &front{engine: e, slots: make(chan struct{}, sessions), running: registry{queries: map[string]*running{}}}
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if fromBrowser(r) {
		http.Error(w, "browsers are not served here", http.StatusForbidden)
		return
	}
	switch r.URL.Path {
	case "/ping":
		w.Write([]byte("Ok.\n"))
	case "/":
		f.serveQuery(w, r)
	default:
		http.NotFound(w, r)
	}
}

// fromBrowser tells a web page in the user's browser, which can reach loopback,
// from a client. Pages send one of these headers, and a page that had its own
// name resolved to loopback (DNS rebinding) sends that name as the host.
func fromBrowser(r *http.Request) bool {
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
		return true
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	ip, err := netip.ParseAddr(host)
	return host != "localhost" && (err != nil || !ip.IsLoopback())
}

func (f *front) serveQuery(w http.ResponseWriter, r *http.Request) {
	q, err := f.parseRequest(w, r)
	if err != nil {
		writeException(w, err)
		return
	}
	w.Header().Set("X-ClickHouse-Server-Display-Name", "aione")
	w.Header().Set("X-ClickHouse-Timezone", f.engine.timezone)
	w.Header().Set("X-ClickHouse-Query-Id", q.id)
	if q.isHello() {
		w.Header().Set("X-ClickHouse-Format", "Native")
		w.Write(f.engine.hello(q.protocolVersion))
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	done, err := f.running.add(q.id, cancel)
	if err != nil {
		writeException(w, err)
		return
	}
	defer done()
	err = f.run(ctx, w, r, q)
	if q.interrupted {
		// Deadlines in the past and net/http's own bookkeeping would hit the
		// next request on this connection, so there is none.
		w.Header().Set("Connection", "close")
		if err == nil {
			panic(http.ErrAbortHandler)
		}
	}
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errKilled) {
			err = errCancelled()
		}
		writeException(w, err)
	}
}

// run executes the request. It returns an error only while nothing of the
// answer has been written; later it aborts the response instead.
func (f *front) run(ctx context.Context, w http.ResponseWriter, r *http.Request, q *query) error {
	if id, ok, err := q.killTarget(); err != nil || ok {
		if err != nil {
			return err
		}
		return f.kill(ctx, w, q, id)
	}
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return exceptionf(codeTooManyQueries, "TOO_MANY_SIMULTANEOUS_QUERIES", "The query waited for a free session until its client gave up")
	}
	s, err := f.engine.session(q)
	if err != nil {
		return err
	}
	defer s.close()
	defer f.interruptible(ctx, w, q)()
	switch {
	case q.insertFormat != "":
		return f.runInsert(ctx, w, r, s, q)
	case q.streams():
		return f.runStream(ctx, w, s, q)
	}
	return f.runWhole(ctx, w, s, q)
}

// interruptible makes the end of the request (client gone, or KILL QUERY) end
// the query, until the returned function is called. The engine's calls cannot
// be interrupted, so the query is killed from another session; and a handler
// that waits for its client is woken.
func (f *front) interruptible(ctx context.Context, w http.ResponseWriter, q *query) (stop func()) {
	over, woken := make(chan struct{}), make(chan struct{})
	unwatch := context.AfterFunc(ctx, func() {
		control := http.NewResponseController(w)
		control.SetReadDeadline(time.Unix(1, 0))
		control.SetWriteDeadline(time.Now().Add(killedAnswerMax))
		close(woken)
		f.engine.killUntil(q.id, over)
	})
	return func() {
		close(over)
		if !unwatch() {
			<-woken
			q.interrupted = true
		}
	}
}

// kill ends the query with the given id and, as SYNC asks, waits until it is gone.
func (f *front) kill(ctx context.Context, w http.ResponseWriter, q *query, id string) error {
	gone := f.running.kill(id)
	if gone == nil {
		return nil // as ClickHouse: no row for a query that is not there
	}
	if !q.killAsync {
		select {
		case <-gone:
		case <-ctx.Done():
			return exceptionf(codeCancelled, "QUERY_WAS_CANCELLED", "KILL QUERY stopped waiting")
		}
	}
	w.Header().Set("X-ClickHouse-Format", "Native")
	if q.format != "Native" {
		w.Header().Set("X-ClickHouse-Format", "TabSeparated")
		w.Write([]byte("finished\t" + tabEscape.Replace(id) + "\tdefault\t\n"))
		return nil
	}
	w.Write(nativeRow("kill_status", "finished", "query_id", id, "user", "default", "query", ""))
	return nil
}

var tabEscape = strings.NewReplacer("\\", `\\`, "\t", `\t`, "\n", `\n`)

// nativeRow is a Native block of one row of strings, from names and values.
func nativeRow(pairs ...string) []byte {
	b := binary.AppendUvarint(nil, uint64(len(pairs)/2))
	b = binary.AppendUvarint(b, 1)
	for i := 0; i < len(pairs); i += 2 {
		b = appendString(b, pairs[i])
		b = appendString(b, "String")
		b = appendString(b, pairs[i+1])
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Revisions from which a Native block has more to it.
const (
	revisionBlockInfo           = 1
	revisionCustomSerialization = 54454
)

var helloQuery = regexp.MustCompile(`(?i)^\s*SELECT\s+displayName\(\),\s*version\(\),\s*revision\(\),\s*timezone\(\)\s*$`)

func (q *query) isHello() bool {
	return q.protocolVersion > 0 && q.format == "Native" && helloQuery.MatchString(q.sql)
}

// hello answers clickhouse-go's first query. It asks for blocks of its protocol
// version and takes the version for later blocks from the answer; the engine
// writes Native blocks of revision 0 only, so that is the revision reported.
func (e *engine) hello(protocolVersion int) []byte {
	var b []byte
	if protocolVersion >= revisionBlockInfo {
		// is_overflows = false, bucket_num = -1, end of block info.
		b = append(b, 1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0)
	}
	b = append(b, 4, 1)
	column := func(name, kind string) {
		b = appendString(b, name)
		b = appendString(b, kind)
		if protocolVersion >= revisionCustomSerialization {
			b = append(b, 0)
		}
	}
	column("displayName()", "String")
	b = appendString(b, "aione")
	column("version()", "String")
	b = appendString(b, e.version)
	column("revision()", "UInt32")
	b = binary.LittleEndian.AppendUint32(b, 0)
	column("timezone()", "String")
	return appendString(b, e.timezone)
}

// session opens a session with the request's settings and database.
func (e *engine) session(q *query) (*session, error) {
	args := []string{e.pathArg, "--implicit_select=0", "--allow_introspection_functions=0"}
	for _, s := range q.settings {
		if _, known := e.settings[s.name]; !known || strings.ContainsRune(s.value, 0) {
			return nil, exceptionf(codeUnknownSetting, "UNKNOWN_SETTING", "Setting %s is neither a builtin setting nor of a readable value", strconv.Quote(s.name))
		}
		if s.name != "log_comment" {
			args = append(args, "--"+s.name+"="+s.value)
		}
	}
	// chDB cannot be told a query id; log_comment is how system.processes and
	// KILL QUERY find the query. See idColumn.
	args = append(args, "--log_comment="+q.id+"\n"+q.comment)
	s, err := e.lib.open(args...)
	if err != nil {
		return nil, e.whyRefused(q, err)
	}
	if q.database != "" && q.database != "default" {
		r := s.query("USE "+quoteIdentifier(q.database), "Null", nil)
		defer r.free()
		if err := r.err(); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

// whyRefused finds the setting whose value the engine did not take: opening a
// session only says that it failed.
func (e *engine) whyRefused(q *query, refused error) error {
	s, err := e.lib.open(e.pathArg)
	if err != nil {
		return refused
	}
	defer s.close()
	for _, setting := range q.settings {
		r := s.query("SET "+setting.name+" = "+quoteString(setting.value), "Null", nil)
		err := r.err()
		r.free()
		if err != nil {
			return err
		}
	}
	return refused
}

func quoteIdentifier(name string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(name) + "`"
}

func quoteString(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}

// column runs one of the front's own queries, of one column without tabs.
func (e *engine) column(sql string) ([]string, error) {
	s, err := e.lib.open(e.pathArg)
	if err != nil {
		return nil, err
	}
	defer s.close()
	r := s.query(sql, "TabSeparated", nil)
	defer r.free()
	if err := r.err(); err != nil {
		return nil, err
	}
	return strings.Fields(string(r.bytes())), nil
}

// idColumn is the client's query id in system.processes.
const idColumn = `splitByChar('\n', Settings['log_comment'])[1]`

// killedAnswerMax is how long a killed query may take to tell its client.
const killedAnswerMax = time.Second

// killRetry is how long killUntil waits between two tries.
const killRetry = 20 * time.Millisecond

// killUntil kills the query until it is over: it may not have been listed yet
// when first tried.
func (e *engine) killUntil(id string, over <-chan struct{}) {
	s, err := e.lib.open(e.pathArg)
	if err != nil {
		return // the query then runs to its end; nobody reads it
	}
	defer s.close()
	for wait := killRetry; ; wait = min(2*wait, time.Second) {
		select {
		case <-over:
			return
		default:
		}
		s.query("KILL QUERY WHERE "+idColumn+" = "+quoteString(id)+" ASYNC", "Null", nil).free()
		select {
		case <-over:
			return
		case <-time.After(wait):
		}
	}
}

// writeException answers with an error, or ends a begun answer abnormally.
func writeException(w http.ResponseWriter, err error) {
	var ex *exception
	if !errors.As(err, &ex) {
		ex = exceptionf(codeUnknownException, "UNKNOWN_EXCEPTION", "%v", err)
	}
	header := w.Header()
	for _, name := range []string{"X-ClickHouse-Format", "Content-Encoding", "X-ClickHouse-Summary"} {
		header.Del(name)
	}
	header.Set("X-ClickHouse-Exception-Code", strconv.Itoa(ex.code))
	header.Set("Content-Type", "text/plain; charset=UTF-8")
	w.WriteHeader(ex.httpStatus())
	w.Write([]byte(ex.text + "\n"))
}

func unescapedQuery(r *http.Request) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, exceptionf(codeBadArguments, "BAD_ARGUMENTS", "Cannot parse the URL: %v", err)
	}
	return values, nil
}
