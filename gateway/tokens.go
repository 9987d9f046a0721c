package gateway

import (
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Tokens are counted here only when the provider does not say: by OpenAI's
// o200k_base vocabulary for every model. Claude's and Gemini's own tokenizers are
// not published; theirs differ by some ten or twenty per cent, most often
// upwards, so such an estimate errs in the client's favour.

const (
	// bytesPerToken is the rough count, where nothing is billed by it unless the
	// gateway dies: English is near four bytes a token, Chinese near three.
	bytesPerToken = 4
	// sampleBytesMax bounds the text of an answer that is kept for counting; of a
	// longer one the rest counts in proportion.
	sampleBytesMax = 64 << 10
	// pieceBytes is what is tokenized at once; a cut costs at most one token.
	pieceBytes = 16 << 10
	// countWithin bounds one count. What is left then counts in proportion.
	countWithin = 500 * time.Millisecond
)

// roughTokens is a count by length alone.
func roughTokens(textBytes int) uint64 {
	return uint64((textBytes + bytesPerToken - 1) / bytesPerToken)
}

// written collects text that is to be counted, if it comes to that. Nil collects
// nothing.
type written struct {
	bytes  int    // all of it
	sample []byte // the first of it
	max    int    // of the sample; 0 means sampleBytesMax
}

func (w *written) full() bool {
	limit := w.max
	if limit == 0 {
		limit = sampleBytesMax
	}
	return len(w.sample) >= limit
}

// add takes a JSON string of n bytes when decoded.
func (w *written) add(quoted []byte, n int) {
	if w == nil {
		return
	}
	w.bytes += n
	if w.full() {
		return
	}
	if n == len(quoted)-2 { // no escapes
		w.sample = append(w.sample, quoted[1:len(quoted)-1]...)
		return
	}
	before := len(w.sample)
	var err error
	if w.sample, err = jsontext.AppendUnquote(w.sample, quoted); err != nil {
		w.sample = w.sample[:min(before, len(w.sample))]
	}
}

func (w *written) addRaw(b []byte) {
	if w == nil {
		return
	}
	w.bytes += len(b)
	if !w.full() {
		w.sample = append(w.sample, b...)
	}
}

// mark is a state of written to go back to.
type mark struct{ bytes, sample int }

func (w *written) mark() mark { return mark{w.bytes, len(w.sample)} }

func (w *written) backTo(m mark) { w.bytes, w.sample = m.bytes, w.sample[:m.sample] }

// tokens counts the text. It takes countWithin at most.
func (w *written) tokens() uint64 {
	if len(w.sample) == 0 {
		return roughTokens(w.bytes)
	}
	n := countTokens(w.sample, 1<<62)
	if w.bytes > len(w.sample) {
		n = n * uint64(w.bytes) / uint64(len(w.sample))
	}
	return n
}

// countTokens counts the tokens of a text, and stops soon after enough.
func countTokens(text []byte, enough uint64) (n uint64) {
	until := time.Now().Add(countWithin)
	for done := 0; done < len(text); {
		end := min(done+pieceBytes, len(text))
		for end < len(text) && end > done+1 && !utf8.RuneStart(text[end]) {
			end--
		}
		n += tokenize(string(text[done:end]))
		if done = end; n > enough || time.Now().After(until) {
			return n * uint64(len(text)) / uint64(done)
		}
	}
	return n
}
