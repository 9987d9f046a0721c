package simulator

import (
	"hash/crc32"
	"net/http"
	"strconv"
)

// answer is one completion on its way out.
type answer struct {
	dialect dialect
	request *request
	sim     Simulate
	counts  counts
	id      string // follows from the request
	text    string // of the message, or the arguments of the tool call
	chunks  int    // pieces the text is streamed in
}

func newAnswer(d dialect, uri string, body []byte, r *request, chunks int) *answer {
	a := &answer{dialect: d, request: r, sim: r.sim, counts: r.counts(), chunks: chunks}
	textTokens := int(min(max(a.counts.completion-a.counts.reasoning, 0), TextTokensMax))
	a.text = text[:textTokens*len(token)]
	if r.json || r.tool != "" {
		a.text = jsonHead + text[:max(textTokens-2, 0)*len(token)] + jsonTail
		textTokens = len(a.text) / len(token)
	}
	if a.sim.Chunks > 0 {
		a.chunks = a.sim.Chunks
	}
	a.chunks = max(min(a.chunks, textTokens), 1)
	sum := crc32.Update(crc32.ChecksumIEEE(body), crc32.IEEETable, []byte(uri))
	a.id = "sim" + strconv.FormatUint(uint64(sum)|1<<32, 16)
	return a
}

// share is piece i of the text: an equal number of tokens.
func (a *answer) share(i int) string {
	n := len(a.text) / len(token)
	return a.text[i*n/a.chunks*len(token) : (i+1)*n/a.chunks*len(token)]
}

const garbage = "<html>502 Bad Gateway</html>"

// pixel is a picture: one transparent point, as PNG in base64.
const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="

func (a *answer) plain(w http.ResponseWriter, r *http.Request) {
	body := a.dialect.plain(make([]byte, 0, 1024+len(a.text)), a)
	if a.sim.Garbage {
		body = []byte(garbage)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if !wait(r.Context(), a.sim.TTFTMS) {
		return
	}
	half := len(body) / 2
	if a.sim.StallMS > 0 || a.sim.CutAfterChunks != nil {
		_, _ = w.Write(body[:half])
		_ = http.NewResponseController(w).Flush()
		body = body[half:]
	}
	if !wait(r.Context(), a.sim.StallMS) {
		return
	}
	if a.sim.CutAfterChunks != nil {
		panic(http.ErrAbortHandler) // closes the connection with the body unfinished
	}
	_, _ = w.Write(body)
}

// stream sends the content in a.chunks pieces between the dialect's opening and
// ending. Without pauses only the first piece and the end are flushed, so that a
// large completion costs two packets.
func (a *answer) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	if !wait(r.Context(), a.sim.TTFTMS) {
		return
	}
	flush := func() { _ = http.NewResponseController(w).Flush() }
	buffer := a.dialect.opening(make([]byte, 0, 512+len(a.text)/a.chunks), a)
	for i := range a.chunks + 1 {
		if len(buffer) > 0 {
			_, _ = w.Write(buffer)
		}
		if a.fault(w, r, i) {
			return
		}
		if i == a.chunks {
			break
		}
		_, _ = w.Write(a.dialect.piece(buffer[:0], a, i))
		buffer = buffer[:0]
		if i == 0 || a.sim.ChunkMS > 0 {
			flush()
		}
		if !wait(r.Context(), a.sim.ChunkMS) {
			return
		}
	}
	_, _ = w.Write(a.dialect.ending(buffer[:0], a))
	flush()
}

// fault does what was asked for after sent content chunks; true ends the stream.
func (a *answer) fault(w http.ResponseWriter, r *http.Request, sent int) bool {
	flush := func() { _ = http.NewResponseController(w).Flush() }
	if a.sim.StallMS > 0 && sent == min(a.sim.StallAfterChunks, a.chunks) {
		flush()
		if !wait(r.Context(), a.sim.StallMS) {
			return true
		}
	}
	switch {
	case a.sim.CutAfterChunks != nil && sent == min(*a.sim.CutAfterChunks, a.chunks):
		flush()
		if !a.sim.CutPolitely {
			panic(http.ErrAbortHandler)
		}
		return true
	case a.sim.Garbage && sent == min(a.sim.GarbageAfterChunks, a.chunks):
		_, _ = w.Write(a.dialect.line(a.dialect.line(nil, garbage), "[DONE]"))
		return true
	case a.sim.ErrorAfterChunks != nil && sent == min(*a.sim.ErrorAfterChunks, a.chunks):
		_, _ = w.Write(a.dialect.streamFailure(nil))
		return true
	}
	return false
}

// reported are the counts with what Simulate.Usage does to them.
func (a *answer) reported() counts {
	c := a.counts
	switch a.sim.Usage {
	case UsageNegative:
		c.prompt, c.completion = -1, -1
	case UsageHuge:
		c.prompt = 1_000_000_000_000_000_000
	case UsageOverlap:
		c.cached = c.prompt + 1
	}
	return c
}
