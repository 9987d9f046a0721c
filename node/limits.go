package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"aione/admission"
	"aione/analytics"
	"aione/billing"
	"aione/events"
	"aione/gateway"
)

// limiter lets the gateway ask package admission, which knows nothing of gateways.
type limiter struct{ admission *admission.Limiter }

var refusalKinds = map[admission.RefusalKind]gateway.RefusalKind{
	admission.RateRequests: gateway.RateRequests, admission.RateTokens: gateway.RateTokens,
	admission.Budget: gateway.Budget, admission.Balance: gateway.Balance, admission.InFlight: gateway.InFlight,
	admission.UsedUp: gateway.Included,
}

// Reserve takes the request's upper bound from every limit that applies.
func (l limiter) Reserve(ctx context.Context, c gateway.Claim) (gateway.Hold, error) {
	hold, err := l.admission.Reserve(ctx, admission.Claim(c))
	var refusal *admission.Refusal
	switch {
	case errors.As(err, &refusal):
		r := &gateway.Refusal{Kind: refusalKinds[refusal.Kind], RetryAfter: refusal.RetryAfter, Scope: refusal.Scope, Header: refusal.Header}
		if in := refusal.Included; in != nil {
			r.Plan, r.Included, r.Renews = in.Plan, in.Limit.String()+" "+in.Unit, in.To
		}
		return nil, r
	case err != nil:
		return nil, err
	}
	return hold, nil
}

// plans are the plans of the orgs as the gateway and the limits ask for them. An
// org that the book does not know has none; its keys are nobody's.
type plans struct{ *billing.Book }

// AllowsModel implements gateway.Plans.
func (p plans) AllowsModel(org uuid.UUID, model string, at time.Time) bool {
	plan, err := p.PlanAt(org, at)
	return err == nil && plan.AllowsModel(model)
}

// Currency implements gateway.Plans.
func (p plans) Currency(org uuid.UUID) (string, bool) {
	o, err := p.Org(org)
	return o.Currency, err == nil
}

func (p plans) rates(org uuid.UUID, at time.Time) admission.Rates {
	plan, err := p.PlanAt(org, at)
	if err != nil {
		return admission.Rates{}
	}
	return admission.Rates{RPM: plan.RPMLimit, TPM: plan.TPMLimit}
}

// included is what a plan that blocks includes of an org's usage at an instant, by
// the ledger's own split of the period.
func (p plans) included(org uuid.UUID, at time.Time) (in admission.Included, err error) {
	t, err := p.TermsAt(org, at)
	if err != nil {
		return in, err
	}
	in = admission.Included{First: t.First, From: t.Start, To: t.End, Blocks: t.Terms.Blocks(), Plan: t.PlanCode, Seq: t.Seq}
	if !in.Blocks {
		return in, nil
	}
	tokens, amount, err := t.Included(t.OfDays, t.Currency)
	if in.Limit, in.Unit = amount.Decimal(), t.Currency; t.Terms.IncludedTokens > 0 {
		in.Limit, in.Unit = decimal.NewFromUint64(tokens), admission.UnitTokens
	}
	return in, err
}

// spend lets the limits ask the rows, which know nothing of limits.
type spend struct{ analytics.Projection }

// Counted implements admission.Spend.
func (s spend) Counted(ctx context.Context) ([]uint64, error) { return s.CountedShards(ctx) }

// EachSpend implements admission.Spend.
func (s spend) EachSpend(ctx context.Context, asked []admission.SpendOf, upTo []uint64, each func(admission.SpendRow) error) error {
	of := make([]analytics.SpendOf, len(asked))
	for i, a := range asked {
		of[i] = analytics.SpendOf(a)
	}
	return s.Projection.EachSpend(ctx, of, upTo, func(r analytics.SpendRow) error { return each(admission.SpendRow(r)) })
}

// claimWait bounds how long a request waits for money that others hold. The
// gateway gives it twice as long (its Timeouts.Admit), so that whoever waits in
// vain is told so.
const claimWait = 5 * time.Second

// openLimits makes the limits, to be fed with the ledger's records. Each process
// is one of any number of replicas from the start: another may join at any time.
func (n *Node) openLimits() (err error) {
	n.Limits, err = admission.New(admission.Config{
		Zones: n.Book, PlanRates: plans{n.Book}.rates, Included: plans{n.Book}.included, Now: n.Clock, Wait: claimWait, Logger: n.Logger,
		Replica: &admission.ReplicaConfig{ID: events.NewID().String(), Log: n.Log, Now: n.leaseClock},
	})
	if err != nil {
		return fmt.Errorf("open the limits: %w", err)
	}
	return nil
}

// limiting is the limits at work: one replica that lets requests in.
type limiting struct {
	node  *Node
	seat  *seat
	stop  context.CancelFunc
	ended chan error // of Run
}

// startLimits restores what has been spent and what is on its way, takes a place
// among the replicas and returns when requests may be let in.
func (n *Node) startLimits(ctx context.Context) (_ *limiting, err error) {
	l := &limiting{node: n, ended: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start the limits: %w", err), l.close(ctx))
		}
	}()
	if l.seat, err = takeSeat(n.dataDir); err != nil {
		return l, err
	}
	n.Limits.Succeed(l.seat.before...)
	if err := l.seat.sit(n.Limits.ReplicaID()); err != nil {
		return l, err
	}
	if err := n.RestoreLimits(ctx); err != nil {
		return l, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	go func() { l.ended <- n.Limits.Run(running) }()
	for n.Limits.Ready() != nil {
		select {
		case err := <-l.ended:
			l.ended <- err // for close
			return l, err
		case err := <-n.failed:
			n.failed <- err // for Run
			return l, err
		case <-ctx.Done():
			return l, ctx.Err()
		case <-time.After(readyPoll):
		}
	}
	return l, nil
}

// RestoreLimits reads what has been spent and what is on its way. Call it once.
func (n *Node) RestoreLimits(ctx context.Context) error {
	swept, err := n.sweeperPosition().Load(ctx)
	if err != nil {
		return err
	}
	orgs := n.Book.Orgs()
	ids := make([]uuid.UUID, len(orgs))
	for i, org := range orgs {
		ids[i] = org.ID
	}
	return n.Limits.Restore(ctx, admission.History{Usage: n.Log, Admissions: n.Log, Spend: spend{n.Projection}, Orgs: ids, AdmissionsFrom: swept})
}

// readyPoll is the time between looks whether requests may be let in.
const readyPoll = 2 * time.Millisecond

// close gives back what this replica was allowed. No request may be on its way any
// more. If the log is out of reach, the next one in this seat takes it over. It is
// idempotent.
func (l *limiting) close(ctx context.Context) error {
	var errs []error
	gone := false
	if l.stop != nil {
		err := l.node.Limits.Leave(ctx)
		if gone = err == nil; !gone {
			l.node.Logger.Warn("what this process was allowed is not given back; the next one takes it over", "error", err)
		}
		l.stop()
		l.stop = nil
		if err := <-l.ended; !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
	}
	if l.seat != nil {
		errs = append(errs, l.seat.leave(gone))
		l.seat = nil
	}
	return errors.Join(errs...)
}

// sweeperPosition is where the sweepers on this data directory are: what was
// admitted before is settled.
func (n *Node) sweeperPosition() gateway.FileCheckpoint {
	return gateway.FileCheckpoint{Path: filepath.Join(n.dataDir, "sweeper")}
}
