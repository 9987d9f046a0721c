package gateway

import "bytes"

// What an answer's text is counted by when the provider does not say: this many
// bytes of UTF-8 make a token, rounded up. English is near four, Chinese lower,
// so the count errs in the client's favour.
const bytesPerToken = 4

func tokensOf(textBytes int) uint64 { return uint64((textBytes + bytesPerToken - 1) / bytesPerToken) }

// chunkScan is what one pass over the strings of a JSON text finds, without
// decoding it. A text that is no JSON gives nonsense, never a panic.
type chunkScan struct {
	textBytes int  // of the text a model wrote: content, reasoning, refusal, arguments
	partBytes int  // of the "text" of content parts: what a client sent
	finishes  int  // choices that end here: finish_reason with a value
	usage     bool // may hold a usage object; decode to be sure
	failure   bool // may hold an error object; decode to be sure
}

// scanChunk looks at every member name and the kind of its value.
func scanChunk(b []byte) (s chunkScan) {
	for {
		name, rest, ok := nextString(b)
		if !ok {
			return s
		}
		value, isMember := afterColon(rest)
		if !isMember || len(value) == 0 {
			b = rest
			continue
		}
		switch b = value; value[0] {
		case '"':
			text, after, ok := nextString(value)
			if !ok {
				return s
			}
			s.member(name, text)
			b = after
		case '{':
			s.usage = s.usage || string(name) == "usage"
			s.failure = s.failure || string(name) == "error"
		}
	}
}

func (s *chunkScan) member(name, text []byte) {
	switch string(name) {
	case "content", "reasoning_content", "reasoning", "refusal", "arguments":
		s.textBytes += decodedLen(text)
	case "text":
		s.partBytes += decodedLen(text)
	case "finish_reason":
		s.finishes++
	}
}

// nextString returns the inside of the first string literal in b and what
// follows it.
func nextString(b []byte) (inside, rest []byte, ok bool) {
	start := bytes.IndexByte(b, '"') + 1
	if start == 0 {
		return nil, nil, false
	}
	for end := start; ; end++ {
		n := bytes.IndexByte(b[end:], '"')
		if n < 0 {
			return nil, nil, false
		}
		end += n
		backslashes := 0
		for end-backslashes > start && b[end-backslashes-1] == '\\' {
			backslashes++
		}
		if backslashes%2 == 0 {
			return b[start:end], b[end+1:], true
		}
	}
}

// afterColon skips a colon and the white space around it.
func afterColon(b []byte) (value []byte, ok bool) {
	b = skipSpace(b)
	if len(b) == 0 || b[0] != ':' {
		return nil, false
	}
	return skipSpace(b[1:]), true
}

// skipSpace is bytes.TrimLeft for a cut set it need not build for every string.
func skipSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\n' || b[0] == '\r') {
		b = b[1:]
	}
	return b
}

// decodedLen is the length in UTF-8 of the inside of a string literal. A
// surrogate pair counts as two characters of three bytes.
func decodedLen(literal []byte) int {
	n := 0
	for {
		i := bytes.IndexByte(literal, '\\')
		if i < 0 || i+1 >= len(literal) {
			return n + len(literal)
		}
		n += i
		skip := 2
		switch {
		case literal[i+1] != 'u':
			n++
		case i+6 <= len(literal) && string(literal[i+2:i+4]) == "00" && literal[i+4] < '8':
			n, skip = n+1, 6
		default:
			n, skip = n+3, 6
		}
		literal = literal[min(i+skip, len(literal)):]
	}
}
