package httpapi

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"aione/documents"
	"aione/keys"
	"aione/ledger"

	"github.com/google/uuid"
)

const (
	exportDaysMax     = 3660 // of one export
	exportDaysDefault = 366  // the last year
)

var (
	exportFrom = param{kind: dateParam, name: "start_date", doc: "First day, in the organisation's time zone. Default: a year before end_date."}
	exportTo   = param{kind: dateParam, name: "end_date", doc: "Last day, inclusive. Default: today."}
)

// selection reads which part of an org's books is asked for, and whether a byte
// order mark is.
func (s *Server) selection(r *http.Request, orgID uuid.UUID) (x documents.Selection, bom bool, err error) {
	x.OrgID = orgID
	if x.Zone, err = s.config.Orgs.Zone(orgID); err != nil {
		return x, false, err
	}
	if x.Anchor, err = s.config.Profiles.Anchor(orgID); err != nil {
		return x, false, err
	}
	p := queryOf(r)
	var given bool
	bom = p.choice(byteOrderMark) == "true"
	if x.Last, given = p.date(exportTo); !given {
		x.Last = ledger.DateOf(s.config.Now(), x.Zone)
	}
	if x.First, given = p.date(exportFrom); !given {
		x.First = x.Last.AddDays(1 - exportDaysDefault)
	}
	if p.err() == nil && x.Last.Before(x.First) {
		p.refuse(exportTo.name, "date_range", "the range ends on %s, before it starts on %s", x.Last, x.First)
	}
	if p.err() == nil && x.First.DaysUntil(x.Last) >= exportDaysMax {
		p.refuse(exportFrom.name, "date_range", "the range has more than %d days", exportDaysMax)
	}
	return x, bom, p.err()
}

// exported serves an export: write does it. Nothing is out before the first rows
// are, so that what keeps it from being made can still be said.
func (s *Server) exported(of subject, name string, write func(ctx context.Context, w io.Writer, x documents.Selection) error) authorised {
	return func(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
		org, err := of(r, caller)
		if err != nil {
			return err
		}
		x, bom, err := s.selection(r, org)
		if err != nil {
			return err
		}
		out := &lateWriter{w: w, name: fmt.Sprintf("%s-%s-%s.csv", name, x.First, x.Last), bom: bom}
		err = write(r.Context(), out, x)
		if err == nil || !out.begun || r.Context().Err() != nil {
			return err
		}
		// Rows are out. A clean end would pass them off as all: cut the connection.
		s.logger.Error("export broke off", "request_id", w.Header().Get(requestIDHeader), "error", err)
		panic(http.ErrAbortHandler)
	}
}

// lateWriter sends the headers of a CSV with its first bytes.
type lateWriter struct {
	w     http.ResponseWriter
	name  string
	bom   bool
	begun bool
}

// Write implements io.Writer.
func (l *lateWriter) Write(b []byte) (int, error) {
	if !l.begun {
		l.begun = true
		csvHeaders(l.w, l.name)
		marked(l.w, l.bom)
	}
	return l.w.Write(b)
}

func (s *Server) focus(ctx context.Context, w io.Writer, x documents.Selection) error {
	names, err := s.teamNames(x.OrgID)
	if err != nil {
		return err
	}
	return documents.Focus(w, s.config.Books, x, documents.FocusSources{
		TeamNames: names,
		Maker: func(model string) string {
			m, _ := s.config.Catalog.Resolve(model)
			return m.Provider
		},
		UsedByTeam: func(inv ledger.Invoice) ([]ledger.TeamQuantity, error) {
			used, err := s.config.Usage.TeamQuantities(ctx, s.config.Accounts.InputsQueryOf(inv))
			if err != nil {
				return nil, unavailable(err)
			}
			return used, nil
		},
	})
}

func (s *Server) journals(_ context.Context, w io.Writer, x documents.Selection) error {
	return documents.Journals(w, s.config.Books, x, documents.DefaultChart())
}
