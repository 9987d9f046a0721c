package gateway

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// chunkScan is what one pass over the strings of a JSON text finds, without
// decoding it, in any of the dialects. A text that is no JSON gives nonsense,
// never a panic.
type chunkScan struct {
	textBytes  int  // of text that a model wrote or reads
	mediaBytes int  // of base64 data and addresses of pictures, sound and files
	media      int  // how many there are
	documents  int  // may hold files that are no pictures: what a model reads of one, its length does not say
	links      int  // of media that are elsewhere
	images     int  // pictures
	finishes   int  // choices or candidates that end here: a finish reason with a value
	usage      bool // may hold a usage object; decode to be sure
	failure    bool // may hold an error object; decode to be sure
}

// scanChunk looks at every member name and the kind of its value. Text is added
// to text, unless that is nil.
func scanChunk(b []byte, text *written) (s chunkScan) {
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
			inside, after, ok := nextString(value)
			if !ok {
				return s
			}
			s.member(name, inside, value[:len(inside)+2], text)
			b = after
		case '{':
			b = s.object(name, value, text)
		}
	}
}

func (s *chunkScan) member(name, inside, quoted []byte, text *written) {
	switch string(name) {
	case "content", "text", "reasoning_content", "reasoning", "refusal", "arguments", "thinking", "partial_json":
		n := decodedLen(inside)
		s.textBytes += n
		text.add(quoted, n)
	case "finish_reason", "finishReason":
		s.finishes++
	case "mimeType", "mime_type":
		if bytes.HasPrefix(inside, []byte("image/")) {
			s.images++
		} else {
			s.documents++
		}
	case "type":
		if string(inside) == "document" { // Anthropic's
			s.documents++
		}
	case "data":
		if !isBase64(inside) { // a document that is a text
			n := decodedLen(inside)
			s.textBytes += n
			text.add(quoted, n)
			return
		}
		s.mediaBytes += len(inside)
		s.media++
	case "url", "file_data", "fileUri", "file_uri", "file_id":
		s.mediaBytes += len(inside)
		s.media++
		if !bytes.HasPrefix(inside, []byte("data:")) && string(name) != "file_data" {
			s.links++
		}
	}
}

// isBase64 reports whether the inside of a string literal has none but characters
// of base64, whose slashes and line ends may be escaped.
func isBase64(inside []byte) bool {
	for _, c := range inside {
		if !base64Chars[c] {
			return false
		}
	}
	return true
}

var base64Chars = func() (is [256]bool) {
	for _, c := range []byte(`ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=\`) {
		is[c] = true
	}
	return is
}()

// object handles a member that holds an object, and returns where to go on.
func (s *chunkScan) object(name, value []byte, text *written) []byte {
	switch string(name) {
	case "usage", "usageMetadata":
		s.usage = true
	case "error":
		s.failure = true
	case "image_url":
		s.images++
	case "file", "input_audio", "video_url":
		s.documents++
	case "audio": // an answer of before, by its id
		s.documents++
		s.links++
	case "fileData", "file_data":
		if end := bytes.IndexByte(value, '}'); end < 0 || !bytes.Contains(value[:end], []byte(`"image/`)) {
			s.documents++
		}
	case "args", "input", "response": // of a tool call: the model wrote the object itself
		object, err := jsontext.NewDecoder(bytes.NewBuffer(value), lenient, jsontext.AllowDuplicateNames(true)).ReadValue()
		if err != nil {
			return value[1:]
		}
		s.textBytes += len(object)
		text.addRaw(object)
		return value[len(object):]
	}
	return value
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
