package httpapi

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// Check is one thing that must hold for this process to serve.
type Check struct {
	Name  string // such as "clickhouse"
	Fails string // what to tell anybody who asks when it does; the error itself goes to the log
	Run   func(ctx context.Context) error
}

// Follower is a read model fed from the ledger: billing.Book, catalog.Catalog.
type Follower interface {
	WaitFor(ctx context.Context, ledgerSeq uint64) error
}

// LedgerEnd says where the ledger ends now: events.Log.
type LedgerEnd interface {
	LedgerEnd(ctx context.Context) (uint64, error)
}

// LogCheck fails when the event log does not answer.
func LogCheck(log LedgerEnd) Check {
	return Check{Name: "log", Fails: "the event log does not answer", Run: func(ctx context.Context) error {
		_, err := log.LedgerEnd(ctx)
		return err
	}}
}

// FollowerCheck fails when a read model does not reach what is in the ledger now.
func FollowerCheck(name string, log LedgerEnd, f Follower) Check {
	return Check{Name: name, Fails: "it has not caught up with the ledger", Run: func(ctx context.Context) error {
		end, err := log.LedgerEnd(ctx)
		if err != nil {
			return err
		}
		return f.WaitFor(ctx, end)
	}}
}

// PingCheck fails when ping does: for ClickHouse, analytics.Store.Ping.
func PingCheck(name string, ping func(ctx context.Context) error) Check {
	return Check{Name: name, Fails: "it does not answer", Run: ping}
}

// checkWithin bounds all checks together: whoever asks wants to know soon.
const checkWithin = 2 * time.Second

// healthz serves GET /healthz: the process is up. It asks nobody.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

type readiness struct {
	Status string            `json:"status" enum:"ready,not ready"`
	Checks map[string]string `json:"checks" doc:"ok, or what is wrong, by name."`
}

// readyz serves GET /readyz: 503 with the reasons while this process cannot serve.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), checkWithin)
	defer cancel()
	var group sync.WaitGroup
	errs := make([]error, len(s.config.Checks))
	for i, c := range s.config.Checks {
		group.Go(func() { errs[i] = c.Run(ctx) })
	}
	group.Wait()
	answer := readiness{"ready", make(map[string]string, len(errs))}
	status := http.StatusOK
	for i, c := range s.config.Checks {
		answer.Checks[c.Name] = "ok"
		if errs[i] != nil {
			s.logger.Warn("not ready", "check", c.Name, "error", errs[i])
			answer.Status, answer.Checks[c.Name], status = "not ready", c.Fails, http.StatusServiceUnavailable
		}
	}
	writeJSON(w, status, answer)
	return nil
}
