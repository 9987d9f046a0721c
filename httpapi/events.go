package httpapi

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"

	"aione/events"
	"aione/keys"

	"github.com/google/uuid"
)

// Media types of CloudEvents in JSON.
const (
	oneEventType   = "application/cloudevents+json"
	eventBatchType = "application/cloudevents-batch+json"
)

// eventsAnswer says what became of a request's events. All rejected is a 422,
// whose detail makes it an HTTPValidationError like any other.
type eventsAnswer struct {
	Accepted int              `json:"accepted"`
	Rejected []rejected       `json:"rejected"`
	Detail   validationErrors `json:"detail,omitzero"`
}

// rejected is an event that will never be billed as it is.
type rejected struct {
	Index  int    `json:"index"` // in the batch, from 0
	ID     string `json:"id"`    // the producer's; empty when it has none
	Detail string `json:"detail"`
}

// postEvents serves POST /api/v1/events: usage of other producers, as CloudEvents
// 1.0 of type ai.usage. See usageData for what an event says.
//
// An event's identity is (org, source, id): sent again, it is counted once, so
// after any doubt the same request can be repeated. Accepted events are durable
// when the answer is 202; a request that cannot be parsed, or has too many events,
// is refused whole.
func (s *Server) postEvents(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
	batch, err := isBatch(r)
	if err != nil {
		return err
	}
	leave, err := s.enter(r.Context(), caller.OrgID)
	if err != nil {
		return err
	}
	defer leave()
	in := intakes.Get().(*intake)
	defer in.release()
	if err := in.read(w, r, s.limits.EventBytes); err != nil {
		return err
	}
	terms, err := s.newTerms(caller)
	if err != nil {
		return err
	}
	if err := in.decode(terms, batch, s.limits.EventsBatch); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.limits.PublishWithin)
	defer cancel()
	if err := s.config.Log.Publish(ctx, in.usage); err != nil {
		return publishError(err)
	}
	s.metrics.accepted.Add(float64(len(in.usage)))
	s.metrics.rejected.Add(float64(len(in.rejected)))
	answer := eventsAnswer{Accepted: len(in.usage), Rejected: in.rejected}
	status := http.StatusAccepted
	if answer.Accepted == 0 && len(answer.Rejected) > 0 {
		status = http.StatusUnprocessableEntity
		answer.Detail = invalid("events_rejected", "no event was accepted; rejected says why", "body")
	}
	writeJSON(w, status, answer)
	return nil
}

// enter waits until a request's events may be worked on: for a turn of its org, then
// for one among all. Its body is still with the client, so waiting costs little.
func (s *Server) enter(ctx context.Context, org uuid.UUID) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.EventsWait)
	defer cancel()
	own, err := s.intakes.enter(ctx, org)
	if err != nil {
		return nil, err
	}
	select {
	case s.intake <- struct{}{}:
		return func() { <-s.intake; own() }, nil
	case <-ctx.Done():
		own()
		return nil, errIntakeBusy
	}
}

// publishError tells a log that is slow, and so in doubt, from one that failed.
func publishError(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", events.ErrUnknown, err)
	}
	return err
}

// isBatch reads the media type of the body.
func isBatch(r *http.Request) (bool, error) {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return false, &apiError{status: http.StatusUnsupportedMediaType, detail: "the body must not be compressed"}
	}
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if charset, ok := params["charset"]; err == nil && (!ok || charset == "utf-8" || charset == "UTF-8") {
		switch media {
		case oneEventType:
			return false, nil
		case eventBatchType:
			return true, nil
		}
	}
	return false, &apiError{status: http.StatusUnsupportedMediaType, detail: "the body must be " + oneEventType + " or " + eventBatchType + " in UTF-8"}
}

// readAhead is how much room a body gets before it has shown that it is larger:
// a Content-Length alone proves nothing.
const readAhead = 1 << 20

func (in *intake) read(w http.ResponseWriter, r *http.Request, bytesMax int64) error {
	if r.ContentLength > bytesMax {
		w.Header().Set("Connection", "close") // its body is not read
		return &http.MaxBytesError{Limit: bytesMax}
	}
	in.body.Grow(int(min(max(r.ContentLength, 0), readAhead)) + 512) // ReadFrom wants room to see the end
	_, err := in.body.ReadFrom(http.MaxBytesReader(w, r.Body, bytesMax))
	return bodyError(err)
}
