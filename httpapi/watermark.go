package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"aione/analytics"

	"github.com/google/uuid"
)

// Headers that say how far an answer has counted.
const (
	countedThroughHeader = "X-Metering-Counted-Through" // when the last envelope counted was written; absent before the first
	countedSeqHeader     = "X-Metering-Counted-Seq"     // its sequence in the org's usage stream
	behindHeader         = "X-Metering-Behind"          // envelopes in the stream that are not counted yet
)

// instantForm is how instants leave: RFC 3339, UTC, milliseconds.
const instantForm = "2006-01-02T15:04:05.000Z07:00"

func instant(t time.Time) string { return t.UTC().Format(instantForm) }

// vouch reads how far the org's usage is counted and puts it into the headers.
// Call it before the question it vouches for: what is counted later makes the
// answer fresher than it says, never staler.
func (s *Server) vouch(ctx context.Context, w http.ResponseWriter, org uuid.UUID) (analytics.Watermark, error) {
	mark, err := s.config.Usage.Watermark(ctx, org)
	if err != nil {
		return mark, unavailable(err)
	}
	if !mark.CountedThrough.IsZero() {
		w.Header().Set(countedThroughHeader, instant(mark.CountedThrough))
	}
	w.Header().Set(countedSeqHeader, strconv.FormatUint(mark.Seq, 10))
	w.Header().Set(behindHeader, strconv.FormatUint(mark.Behind(), 10))
	return mark, nil
}

// vouchWithin bounds the wait for a watermark that an answer can do without.
const vouchWithin = 2 * time.Second

// vouchIfKnown is vouch for issued invoices. They come from the ledger, are
// final, and say in cut what they have counted: they can be read while the usage
// projection is away, and the header says that it is.
func (s *Server) vouchIfKnown(ctx context.Context, w http.ResponseWriter, org uuid.UUID) {
	ctx, cancel := context.WithTimeout(ctx, vouchWithin)
	defer cancel()
	if _, err := s.vouch(ctx, w, org); err != nil {
		s.logger.Warn("watermark unknown", "request_id", w.Header().Get(requestIDHeader), "error", err)
		w.Header().Set(behindHeader, "unknown")
	}
}

// unavailable marks an error of the projection, whatever it is: without an
// answer there is nothing better to say than 503. The log has the cause.
func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errUsageUnavailable, err)
}
