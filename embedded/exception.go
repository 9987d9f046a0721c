package embedded

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// Codes of ClickHouse the front itself answers with.
const (
	codeUnknownDatabase  = 81
	codeNoDataToInsert   = 108
	codeUnknownSetting   = 115
	codeNotImplemented   = 48
	codeBadArguments     = 36
	codeSyntaxError      = 62
	codeTooManyQueries   = 202
	codeSameQueryID      = 216
	codeNotEnoughSpace   = 243
	codeCannotReadData   = 33
	codeCancelled        = 394
	codeUnknownException = 1002
)

// exception is an error as ClickHouse words it; text is the whole line.
type exception struct {
	code int
	text string
}

func (e *exception) Error() string { return e.text }

func exceptionf(code int, name, format string, args ...any) *exception {
	return &exception{code, fmt.Sprintf("Code: %d. DB::Exception: %s. (%s)", code, fmt.Sprintf(format, args...), name)}
}

func errCancelled() *exception {
	return exceptionf(codeCancelled, "QUERY_WAS_CANCELLED", "Query was cancelled")
}

var exceptionCode = regexp.MustCompile(`^\s*Code:\s*(\d+)\.`)

// newException reads the code out of what the engine said. The engine's own
// complaints, such as a statement on a busy connection, carry none.
func newException(text string) *exception {
	code := codeUnknownException
	if m := exceptionCode.FindStringSubmatch(text); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil && n > 0 {
			code = n
		}
	} else {
		return exceptionf(code, "UNKNOWN_EXCEPTION", "%s", text)
	}
	if code == codeNotEnoughSpace || strings.Contains(text, "No space left on device") {
		text += " The disk of the ClickHouse data directory is full: free some space and retry."
	}
	return &exception{code, text}
}

// httpStatus maps a code as ClickHouse's HTTP interface does; the classes that
// matter to a client are theirs (4xx) and ours (5xx).
func (e *exception) httpStatus() int {
	switch e.code {
	case 46, 47, 60, 81, 82, 115, 16, 50, 56, 79:
		return http.StatusNotFound
	case 6, 25, 26, 27, 32, 33, 34, 36, 38, 41, 43, 44, 53, 62, 69, 70, 72, 108, 131, 321, 349, 456, 457, 469:
		return http.StatusBadRequest
	case 48:
		return http.StatusNotImplemented
	case 159, 160:
		return http.StatusRequestTimeout
	case codeTooManyQueries:
		return http.StatusTooManyRequests
	}
	return http.StatusInternalServerError
}
