package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"aione/admission"
	"aione/analytics"
	"aione/billing"
	"aione/catalog"
	"aione/events"
	"aione/keys"
	"aione/webhooks"
)

// Config of a node.
type Config struct {
	Engines EngineConfig
	Pepper  string // as in AIONE_PEPPER: base64, or version:base64 of several; empty: made once and kept in the data directory
	Keys    KeyConfig
	NoKeys  bool             // the node never sees an API key, so it needs no pepper
	Clock   func() time.Time // default time.Now; the demo runs on another
	Logger  *slog.Logger     // default slog.Default()
}

// Node holds what every role needs.
type Node struct {
	Engines    *Engines
	Log        *events.Log
	Projection analytics.Projection
	Keys       *keys.Set
	Catalog    *catalog.Catalog
	Book       *billing.Book
	Limits     *admission.Limiter // nil with NoKeys; lets nothing in before Listen
	Auditor    *Auditor
	Webhooks   *webhooks.Book // nil with NoKeys
	Clock      func() time.Time
	Logger     *slog.Logger

	dataDir    string
	leaseClock func() time.Time  // of places among the replicas; nil: Clock
	secrets    *webhooks.Secrets // of the endpoints
	stopFollow context.CancelFunc
	following  sync.WaitGroup
	failed     chan error // the follower's, if it cannot go on
}

// closeTimeout bounds how long Close waits for what was accepted to be settled.
const closeTimeout = 20 * time.Second

// Open starts a node without roles. When it returns, the read models show
// everything that was in the ledger.
func Open(ctx context.Context, c Config) (_ *Node, err error) {
	leaseClock := time.Now
	if c.Clock == nil {
		c.Clock, leaseClock = time.Now, nil
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	n := &Node{Clock: c.Clock, leaseClock: leaseClock, Logger: c.Logger, dataDir: c.Engines.DataDir,
		Catalog: catalog.New(), Book: billing.NewBook(), failed: make(chan error, 1)}
	n.Auditor = newAuditor(n)
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if !c.NoKeys {
		peppers, err := loadPeppers(c.Pepper, c.Engines.DataDir)
		if err != nil {
			return n, err
		}
		if n.Keys, err = keys.NewSet(keys.Config{Peppers: peppers, Now: c.Clock, Bounds: c.Keys.bounds()}); err != nil {
			return n, err
		}
		if n.secrets, err = webhooks.NewSecrets(peppers...); err != nil {
			return n, err
		}
		if n.Webhooks, err = webhooks.NewBook(eventTypes, translate); err != nil {
			return n, err
		}
	}
	if n.Engines, err = OpenEngines(ctx, c.Engines, c.Logger); err != nil {
		return n, err
	}
	n.Log, err = events.Open(ctx, n.Engines.NATS, events.Options{Shards: c.Engines.Shards, Replicas: c.Engines.Replicas, Logger: c.Logger})
	if err != nil {
		return n, err
	}
	store, err := analytics.Open(ctx, n.Engines.ClickHouseDSN, c.Logger)
	if err != nil {
		return n, err
	}
	n.Projection = analytics.Projection{Store: store, Log: n.Log}
	if !c.NoKeys {
		if err := n.openLimits(); err != nil {
			return n, err
		}
	}
	if err := n.follow(ctx); err != nil || c.NoKeys {
		return n, err
	}
	if err := n.Keys.UsePeppers(ctx, n.Log); err != nil {
		return n, fmt.Errorf("keys of this log: %w; AIONE_PEPPER must say the same in every process, or the data directory's file pepper", err)
	}
	return n, nil
}

// follow feeds the read models and waits until they have caught up.
func (n *Node) follow(ctx context.Context) error {
	end, err := n.Log.LedgerEnd(ctx)
	if err != nil {
		return err
	}
	var following context.Context
	following, n.stopFollow = context.WithCancel(context.Background())
	n.following.Go(func() { keepHeapRoom(following) })
	n.following.Go(func() {
		err := n.Log.Follow(following, 1, n.apply)
		if following.Err() == nil {
			n.Logger.Error("the ledger cannot be followed any further", "error", err)
			n.failed <- err
		}
	})
	caughtUp := make(chan error, 1)
	go func() { caughtUp <- n.Book.WaitFor(ctx, end) }()
	select {
	case err := <-caughtUp:
		return err
	case err := <-n.failed:
		return fmt.Errorf("read the ledger: %w", err)
	}
}

// apply feeds one record to the read models, the book last: whoever waits for it
// finds the others done.
func (n *Node) apply(r events.Record) error {
	if n.Keys != nil {
		if err := n.Keys.Apply(r); err != nil {
			return err
		}
	}
	if n.Limits != nil {
		if err := n.Limits.Apply(r); err != nil {
			return err
		}
		org, blocks, changes, err := billing.ChangesTerms(r)
		if err != nil {
			return err
		}
		if changes {
			n.Limits.TermsChanged(org, r.Seq, blocks)
		}
	}
	if n.Webhooks != nil {
		if err := n.Webhooks.Apply(r); err != nil {
			return err
		}
	}
	return errors.Join(n.Catalog.Apply(r), n.Book.Apply(r))
}

// Run runs roles side by side until ctx ends or one of them cannot go on; then
// all are told to end. It returns nil if it was ctx.
func (n *Node) Run(ctx context.Context, roles ...func(context.Context) error) error {
	g, running := errgroup.WithContext(ctx)
	for _, role := range roles {
		g.Go(func() error { return role(running) })
	}
	g.Go(func() error {
		select {
		case err := <-n.failed:
			return fmt.Errorf("read the ledger: %w", err)
		case <-running.Done():
			return nil
		}
	})
	if err := g.Wait(); ctx.Err() == nil {
		return err
	}
	return nil
}

// Close closes everything in the reverse order of Open. It is idempotent.
func (n *Node) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var errs []error
	if n.Log != nil { // first: what was accepted becomes durable
		errs = append(errs, n.Log.Close(ctx))
	}
	if n.stopFollow != nil {
		n.stopFollow()
		n.following.Wait()
	}
	if n.Projection.Store != nil {
		errs = append(errs, n.Projection.Store.Close())
	}
	if n.Engines != nil {
		errs = append(errs, n.Engines.Close())
	}
	return errors.Join(errs...)
}
