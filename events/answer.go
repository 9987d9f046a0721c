package events

import (
	"errors"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// answer is what the log says about one attempt to write.
type answer int

const (
	answerNone      answer = iota // it did not say: the write may be there, or get there yet
	answerStored                  // it is there
	answerLater                   // it is not there; try again
	answerFull                    // it is not there: no room
	answerRefused                 // it is not there, and a retry will not help
	answerConflict                // it is not there: the expectation does not hold
	answerDuplicate               // a batch is not there: it holds an id that is
)

// JetStream API error codes that are told apart.
const (
	codeAccountLimit       = 10002 // the account's share of the disk is used up
	codeNoResources        = 10023 // the server's share is
	codeNoStorage          = 10047
	codeWrongLastSequence  = 10071
	codeStoreFailed        = 10077 // several causes, told apart by their text
	codeDuplicateInProcess = 10158
	codeConflictInFlight   = 10164 // a write on the subject is not committed yet
	codeBatchIncomplete    = 10176
	codeDuplicateInBatch   = 10201
)

func judge(err error) answer {
	if err == nil {
		return answerStored
	}
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		if errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrBadSubject) {
			return answerRefused // the client did not even send it
		}
		return answerNone
	}
	switch api.ErrorCode {
	case codeStoreFailed:
		// A server that shuts down answers with this code too; that is no reason to
		// tell a caller that the log is full.
		if strings.Contains(api.Description, "store is closed") {
			return answerLater
		}
		return answerFull
	case codeAccountLimit, codeNoResources, codeNoStorage:
		return answerFull
	case codeWrongLastSequence:
		return answerConflict
	case codeDuplicateInBatch:
		return answerDuplicate
	case codeDuplicateInProcess, codeConflictInFlight, codeBatchIncomplete:
		return answerLater
	}
	const unavailable, tooMany, timedOut = 503, 429, 408
	if api.Code == unavailable || api.Code == tooMany || api.Code == timedOut {
		return answerLater
	}
	return answerRefused
}
