package embedded

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// chdb is the C API of libchdb.so, as far as the front needs it. Pointers it
// returns are C memory: they are only ever handed back, or copied from.
type chdb struct {
	setSignalHandlersEnabled func(enabled int32)
	version                  func() string
	connect                  func(argc int32, argv unsafe.Pointer) unsafe.Pointer
	closeConn                func(conn unsafe.Pointer)

	query  func(conn, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer
	stream func(conn, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer
	insert func(conn, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer

	streamFetch  func(conn, stream unsafe.Pointer) unsafe.Pointer
	streamCancel func(conn, stream unsafe.Pointer)

	insertAppend  func(stream, data unsafe.Pointer, dataLen uintptr) int32
	insertDone    func(stream unsafe.Pointer) unsafe.Pointer
	insertCancel  func(stream unsafe.Pointer)
	insertError   func(stream unsafe.Pointer) string
	insertDestroy func(stream unsafe.Pointer)

	classify func(conn, sql unsafe.Pointer, sqlLen uintptr, database unsafe.Pointer, databaseLen uintptr, analysis unsafe.Pointer) int32

	resultBuffer       func(result unsafe.Pointer) unsafe.Pointer
	resultLength       func(result unsafe.Pointer) uintptr
	resultError        func(result unsafe.Pointer) string
	resultRowsRead     func(result unsafe.Pointer) uint64
	resultBytesRead    func(result unsafe.Pointer) uint64
	resultRowsWritten  func(result unsafe.Pointer) uint64
	resultBytesWritten func(result unsafe.Pointer) uint64
	resultDestroy      func(result unsafe.Pointer)
}

// loadChdb loads the library at path. A process loads it once and never
// unloads it: its threads outlive every connection.
func loadChdb(path string) (*chdb, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("load the ClickHouse library %s: %w", path, err)
	}
	c := &chdb{}
	for name, fn := range map[string]any{
		"chdb_set_signal_handlers_enabled": &c.setSignalHandlersEnabled,
		"chdb_version":                     &c.version,
		"chdb_connect":                     &c.connect,
		"chdb_close_conn":                  &c.closeConn,
		"chdb_query_with_params_n":         &c.query,
		"chdb_stream_query_with_params_n":  &c.stream,
		"chdb_stream_insert_with_params_n": &c.insert,
		"chdb_stream_fetch_result":         &c.streamFetch,
		"chdb_stream_cancel_query":         &c.streamCancel,
		"chdb_stream_append":               &c.insertAppend,
		"chdb_stream_done":                 &c.insertDone,
		"chdb_stream_cancel_insert":        &c.insertCancel,
		"chdb_stream_insert_error":         &c.insertError,
		"chdb_destroy_insert_stream":       &c.insertDestroy,
		"chdb_classify_query_n":            &c.classify,
		"chdb_result_buffer":               &c.resultBuffer,
		"chdb_result_length":               &c.resultLength,
		"chdb_result_error":                &c.resultError,
		"chdb_result_rows_read":            &c.resultRowsRead,
		"chdb_result_bytes_read":           &c.resultBytesRead,
		"chdb_result_rows_written":         &c.resultRowsWritten,
		"chdb_result_bytes_written":        &c.resultBytesWritten,
		"chdb_destroy_query_result":        &c.resultDestroy,
	} {
		symbol, err := purego.Dlsym(handle, name)
		if err != nil {
			return nil, fmt.Errorf("the ClickHouse library %s has no %s: %w", path, name, err)
		}
		purego.RegisterFunc(fn, symbol)
	}
	return c, nil
}

// session is one chDB connection: it runs one statement at a time and has its
// own settings. It is not safe for concurrent use.
type session struct {
	lib    *chdb
	handle unsafe.Pointer // chdb_connection *
}

// open opens a session with command-line arguments such as --path=… or
// --max_threads=2. Arguments the engine does not know are ignored by it, so
// callers check names first.
func (c *chdb) open(args ...string) (*session, error) {
	argv := make([]unsafe.Pointer, 0, len(args)+2)
	for _, arg := range append([]string{"clickhouse"}, args...) {
		zeroEnded := append([]byte(arg), 0)
		argv = append(argv, unsafe.Pointer(unsafe.SliceData(zeroEnded)))
	}
	count := len(argv)
	argv = append(argv, nil)
	handle := c.connect(int32(count), unsafe.Pointer(unsafe.SliceData(argv)))
	runtime.KeepAlive(argv)
	if handle == nil || *(*unsafe.Pointer)(handle) == nil {
		return nil, errors.New("the engine refused to open the data directory or a setting")
	}
	return &session{lib: c, handle: handle}, nil
}

func (s *session) conn() unsafe.Pointer { return *(*unsafe.Pointer)(s.handle) }

func (s *session) close() {
	s.lib.closeConn(s.handle)
}

// params are the values of {name:Type} placeholders, as C arrays.
type params struct {
	names, values         []unsafe.Pointer
	nameLens, valueLens   []uintptr
	nameBytes, valueBytes [][]byte
}

func (p *params) add(name, value string) {
	n, v := append([]byte(name), 0), append([]byte(value), 0)
	p.nameBytes, p.valueBytes = append(p.nameBytes, n), append(p.valueBytes, v)
	p.names = append(p.names, unsafe.Pointer(unsafe.SliceData(n)))
	p.values = append(p.values, unsafe.Pointer(unsafe.SliceData(v)))
	p.nameLens = append(p.nameLens, uintptr(len(name)))
	p.valueLens = append(p.valueLens, uintptr(len(value)))
}

// result is what a statement or one fetch of a stream answered. Its bytes are
// C memory until free.
type result struct {
	lib    *chdb
	handle unsafe.Pointer
}

func (r result) err() error {
	if r.handle == nil {
		return errors.New("the engine gave no result")
	}
	if text := r.lib.resultError(r.handle); text != "" {
		return newException(text)
	}
	return nil
}

func (r result) bytes() []byte {
	length := r.lib.resultLength(r.handle)
	if length == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(r.lib.resultBuffer(r.handle)), length)
}

func (r result) free() {
	if r.handle != nil {
		r.lib.resultDestroy(r.handle)
	}
}

type callWithParams = func(conn, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer

func (s *session) call(fn callWithParams, sql, format string, p *params) unsafe.Pointer {
	if p == nil {
		p = &params{}
	}
	out := fn(s.conn(),
		unsafe.Pointer(unsafe.StringData(sql)), uintptr(len(sql)),
		unsafe.Pointer(unsafe.StringData(format)), uintptr(len(format)),
		unsafe.Pointer(unsafe.SliceData(p.names)), unsafe.Pointer(unsafe.SliceData(p.nameLens)),
		unsafe.Pointer(unsafe.SliceData(p.values)), unsafe.Pointer(unsafe.SliceData(p.valueLens)),
		uintptr(len(p.names)))
	runtime.KeepAlive(sql)
	runtime.KeepAlive(format)
	runtime.KeepAlive(p)
	return out
}

// query runs a statement to its end and holds its whole answer.
func (s *session) query(sql, format string, p *params) result {
	return result{s.lib, s.call(s.lib.query, sql, format, p)}
}

// stream is a SELECT whose blocks are fetched one after another.
type stream struct {
	session *session
	opened  result
}

// stream starts a SELECT. It fails with code 36 for statements that do not
// return rows one block at a time; nothing has run then.
func (s *session) stream(sql, format string, p *params) (stream, error) {
	opened := result{s.lib, s.call(s.lib.stream, sql, format, p)}
	if err := opened.err(); err != nil {
		opened.free()
		return stream{}, err
	}
	return stream{s, opened}, nil
}

// next returns the next chunk, which the caller frees; an empty one is the end.
func (s stream) next() (result, error) {
	chunk := result{s.session.lib, s.session.lib.streamFetch(s.session.conn(), s.opened.handle)}
	if err := chunk.err(); err != nil {
		chunk.free()
		return result{}, err
	}
	return chunk, nil
}

// close gives up what was not fetched.
func (s stream) close() {
	s.session.lib.streamCancel(s.session.conn(), s.opened.handle)
	s.opened.free()
}

// insert is an INSERT whose data is still arriving.
type insert struct {
	lib    *chdb
	handle unsafe.Pointer
}

// insert starts an INSERT; sql has no FORMAT clause and no data.
func (s *session) insert(sql, format string, p *params) (insert, error) {
	in := insert{s.lib, s.call(s.lib.insert, sql, format, p)}
	if in.handle == nil {
		return insert{}, errors.New("the engine gave no insert stream")
	}
	if text := in.lib.insertError(in.handle); text != "" {
		in.free()
		return insert{}, newException(text)
	}
	return in, nil
}

// append hands data over; it is copied, and may wait for the engine. It returns
// false when the engine has stopped reading: finish says why.
func (in insert) append(data []byte) bool {
	ok := in.lib.insertAppend(in.handle, unsafe.Pointer(unsafe.SliceData(data)), uintptr(len(data))) == 0
	runtime.KeepAlive(data)
	return ok
}

// finish ends the data and commits it.
func (in insert) finish() result { return result{in.lib, in.lib.insertDone(in.handle)} }

// cancel ends the INSERT without what was not yet written.
func (in insert) cancel() { in.lib.insertCancel(in.handle) }

func (in insert) free() { in.lib.insertDestroy(in.handle) }

// statements counts the statements in sql, by the engine's own parser; 0 if it
// does not parse.
func (s *session) statements(sql string) int {
	analysis := struct{ size, statements, flags, class uint32 }{}
	analysis.size = uint32(unsafe.Sizeof(analysis))
	failed := s.lib.classify(s.conn(), unsafe.Pointer(unsafe.StringData(sql)), uintptr(len(sql)), nil, 0, unsafe.Pointer(&analysis))
	runtime.KeepAlive(sql)
	if failed != 0 {
		return 0
	}
	return int(analysis.statements)
}
