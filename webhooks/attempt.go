package webhooks

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"aione/events"
)

// attemptTimeout bounds an attempt: name look-up, connection, handshake and answer.
const attemptTimeout = 15 * time.Second

// result is what came of an attempt.
type result struct {
	job
	outcome outcome
	none    bool // there was no attempt: the log was out of reach, or it was called off
	gone    bool // the endpoint says that it will never come back
}

// attempter makes one attempt. It is safe for concurrent use.
type attempter struct {
	log          recordReader
	book         *Book
	secrets      *Secrets
	destinations Destinations
	client       *http.Client
	now          func() time.Time
}

type recordReader interface {
	RecordAt(ctx context.Context, seq uint64) (events.Record, error)
}

// attempt sends a message once and judges the answer.
func (a *attempter) attempt(ctx context.Context, j job) result {
	r := result{job: j}
	record, err := a.log.RecordAt(ctx, j.seq)
	if err != nil {
		r.none = true
		return r
	}
	now := a.now().UTC()
	r.outcome = outcome{Endpoint: j.endpoint, Seq: j.seq, Round: j.round, Attempts: j.attempts + 1, At: now.Truncate(time.Millisecond)}
	event, ok := a.book.eventOf(record)
	if !ok {
		r.outcome.Status, r.outcome.Error = StatusDead, "the event is not known any more"
		return r
	}
	code, err := a.post(ctx, j, event, record.At, now)
	if ctx.Err() != nil { // called off: nobody knows what the endpoint has made of it
		return result{job: j, none: true}
	}
	r.outcome.Code, r.gone = code, code == http.StatusGone
	switch {
	case err == nil && code/100 == 2:
		r.outcome.Status = StatusDelivered
		return r
	case err != nil:
		r.outcome.Error = err.Error()
	case code/100 == 3:
		r.outcome.Error = "redirects are not followed"
	default:
		r.outcome.Error = fmt.Sprintf("answered with status %d", code)
	}
	r.outcome.Status = StatusDead
	if delay, again := retryAfter(j.key, r.outcome.Attempts); again {
		r.outcome.Status, r.outcome.Next = StatusWaiting, a.now().UTC().Add(delay).Truncate(time.Millisecond)
	}
	return r
}

// post gives the status of the answer, or an error whose text may be kept and shown.
func (a *attempter) post(ctx context.Context, j job, e Event, happened, now time.Time) (code int, err error) {
	if why := a.destinations.check(j.url); why != "" {
		return 0, fmt.Errorf("the URL %s", why)
	}
	body, err := bodyOf(e, happened)
	if err != nil {
		return 0, err
	}
	id := formatMessageID(j.message.id)
	signature, err := a.secrets.sign(j.endpoint, j.secrets, id, now, body)
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, j.url, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("the URL is not valid")
	}
	request.Header = http.Header{
		"Content-Type": {"application/json"}, "User-Agent": {"AIone-Webhooks/1"},
		"Webhook-Id": {id}, "Webhook-Timestamp": {strconv.FormatInt(now.Unix(), 10)}, "Webhook-Signature": {signature},
	}
	response, err := a.client.Do(request)
	if err != nil {
		return 0, fmt.Errorf("%s", reasonOf(err))
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, responseBodyMax) // the status is the answer
	return response.StatusCode, nil
}
