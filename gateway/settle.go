package gateway

import (
	"context"
	"errors"
	"time"

	"aione/events"
)

// Between two attempts to publish. The log retries within one attempt itself;
// this is for answers such as "full" or "not connected".
const (
	publishPauseFirst = 20 * time.Millisecond
	publishPauseMax   = time.Second
)

// settle makes the usage event of the exchange durable, and those of the attempts
// that failed before with it. It does not depend on the
// client being there, and it is bounded by Timeouts.Publish. After an error the
// event may be in the log or not; the admission is, so the sweeper will settle.
func (x *exchange) settle(r result) error {
	u, err := x.usage(r)
	if err != nil {
		x.log().Error("the request cannot be settled, the sweeper will", "error", err)
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), x.gateway.config.Timeouts.Publish)
	defer cancel()
	pause := publishPauseFirst
	for {
		// The same event each time: a copy too many is recognised by its id.
		err := x.gateway.config.Log.Publish(ctx, append(x.failed, u))
		if err == nil {
			x.settleHold(u)
			x.billed = u.Tokens
			return nil
		}
		hopeless := errors.Is(err, events.ErrInvalidUsage) || errors.Is(err, events.ErrClosed)
		if hopeless || !sleep(ctx, pause) {
			x.log().Error("the usage is not durable, the sweeper will settle", "error", err)
			if u.Cost.GreaterThan(x.estimate.Cost) {
				x.settleHold(u) // it may be in the log: what is held must not be too little
			}
			return err
		}
		pause = min(2*pause, publishPauseMax)
	}
}

// sleep reports whether the time passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
