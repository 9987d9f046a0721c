package simulator

import (
	"fmt"
	"hash/crc32"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// answer is one completion on its way out.
type answer struct {
	sim          Simulate
	counts       counts
	textTokens   int
	chunks       int
	includeUsage bool
	head         string // `{"id":…,"object":"chat.completion…","created":…,"model":…`
}

func newAnswer(body []byte, r *request, chunks int) *answer {
	a := &answer{sim: r.Simulate, counts: r.counts(), chunks: chunks}
	a.includeUsage = r.StreamOptions != nil && r.StreamOptions.IncludeUsage
	a.textTokens = int(min(max(a.counts.completion-a.counts.reasoning, 0), TextTokensMax))
	if a.sim.Chunks > 0 {
		a.chunks = a.sim.Chunks
	}
	a.chunks = max(min(a.chunks, a.textTokens), 1)
	object := "chat.completion"
	if r.Stream {
		object = "chat.completion.chunk"
	}
	model, _ := jsontext.AppendQuote(nil, r.Model) // was decoded from JSON, so it is UTF-8
	a.head = fmt.Sprintf(`{"id":"chatcmpl-sim%08x","object":%q,"created":%d,"model":%s`,
		crc32.ChecksumIEEE(body), object, createdUnix, model)
	return a
}

const garbage = "<html>502 Bad Gateway</html>"

func (a *answer) plain(w http.ResponseWriter, r *http.Request) {
	body := []byte(a.head + `,"choices":[{"index":0,"message":{"role":"assistant","content":"`)
	body = append(body, text[:a.textTokens*len(token)]...)
	body = append(body, `"},"logprobs":null,"finish_reason":"stop"}]`...)
	if a.sim.Usage != UsageMissing {
		body = append(body, `,"usage":`...)
		body = a.appendUsage(body)
	}
	body = append(body, '}')
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

// stream sends the content in a.chunks pieces, then the finish, the usage if it
// was asked for, and [DONE]. Without pauses only the first piece and the end are
// flushed, so that a large completion costs two packets.
func (a *answer) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	if !wait(r.Context(), a.sim.TTFTMS) {
		return
	}
	flush := func() { _ = http.NewResponseController(w).Flush() }
	for i := range a.chunks + 1 {
		if a.fault(w, r, i) {
			return
		}
		if i == a.chunks {
			break
		}
		_, _ = w.Write(a.contentChunk(i))
		if i == 0 || a.sim.ChunkMS > 0 {
			flush()
		}
		if !wait(r.Context(), a.sim.ChunkMS) {
			return
		}
	}
	usageField := ""
	if a.includeUsage {
		usageField = `,"usage":null`
	}
	end := []byte("data: " + a.head + `,"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]` + usageField + "}\n\n")
	if a.includeUsage && a.sim.Usage != UsageMissing {
		end = append(end, "data: "+a.head+`,"choices":[],"usage":`...)
		end = append(a.appendUsage(end), "}\n\n"...)
	}
	_, _ = w.Write(append(end, "data: [DONE]\n\n"...))
	flush()
}

// contentChunk is piece i: an equal share of the text. The first names the role.
func (a *answer) contentChunk(i int) []byte {
	from, to := i*a.textTokens/a.chunks, (i+1)*a.textTokens/a.chunks
	b := append(make([]byte, 0, 256+(to-from)*len(token)), "data: "+a.head+`,"choices":[{"index":0,"delta":{`...)
	if i == 0 {
		b = append(b, `"role":"assistant",`...)
	}
	b = append(b, `"content":"`...)
	b = append(b, text[from*len(token):to*len(token)]...)
	b = append(b, `"},"logprobs":null,"finish_reason":null}]`...)
	if a.includeUsage {
		b = append(b, `,"usage":null`...)
	}
	return append(b, "}\n\n"...)
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
		_, _ = w.Write([]byte("data: " + garbage + "\n\ndata: [DONE]\n\n"))
		return true
	case a.sim.ErrorAfterChunks != nil && sent == min(*a.sim.ErrorAfterChunks, a.chunks):
		_, _ = w.Write([]byte(`data: {"error":{"message":"Simulated failure.","type":"server_error","code":"simulated_error"}}` + "\n\n"))
		return true
	}
	return false
}

func (a *answer) appendUsage(b []byte) []byte {
	c := a.counts
	switch a.sim.Usage {
	case UsageNegative:
		c.prompt, c.completion = -1, -1
	case UsageHuge:
		c.prompt = 1_000_000_000_000_000_000
	case UsageOverlap:
		c.cached = c.prompt + 1
	}
	return fmt.Appendf(b, `{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d},"completion_tokens_details":{"reasoning_tokens":%d}}`,
		c.prompt, c.completion, c.prompt+c.completion, c.cached, c.reasoning)
}
