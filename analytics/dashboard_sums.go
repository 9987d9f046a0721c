package analytics

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"aione/events"
)

// dashboardBuilder adds up the groups of the dashboard query along each of its
// dimensions.
type dashboardBuilder struct {
	total         Health
	days          []DayHealth
	dayOf         map[string]int
	models        map[string]*Sums
	teams         map[uuid.UUID]*Sums
	latency, ttft histogram
}

func (b *dashboardBuilder) init(q DashboardQuery, zone *time.Location) {
	b.models, b.teams, b.dayOf = map[string]*Sums{}, map[uuid.UUID]*Sums{}, map[string]int{}
	first, last := q.From.In(zone), q.To.Add(-time.Nanosecond).In(zone)
	// Noon, not midnight: every day has one, whatever its clock does.
	for d := time.Date(first.Year(), first.Month(), first.Day(), 12, 0, 0, 0, time.UTC); ; d = d.AddDate(0, 0, 1) {
		if d.After(time.Date(last.Year(), last.Month(), last.Day(), 12, 0, 0, 0, time.UTC)) {
			return
		}
		b.day(d.Format(time.DateOnly))
	}
}

func (b *dashboardBuilder) day(date string) *Health {
	i, ok := b.dayOf[date]
	if !ok {
		i = len(b.days)
		b.dayOf[date] = i
		b.days = append(b.days, DayHealth{Date: date})
	}
	return &b.days[i].Health
}

func (b *dashboardBuilder) add(date, model string, team uuid.UUID, outcome events.Outcome, h Health) {
	b.total.add(outcome, h)
	b.day(date).add(outcome, h)
	if b.models[model] == nil {
		b.models[model] = &Sums{}
	}
	b.models[model].Add(h.Sums)
	if b.teams[team] == nil {
		b.teams[team] = &Sums{}
	}
	b.teams[team].Add(h.Sums)
}

func (b *dashboardBuilder) dashboard() Dashboard {
	d := Dashboard{
		Total: b.total, Days: b.days,
		Timed:        b.latency.count(),
		LatencyP50MS: b.latency.quantileMS(500), LatencyP95MS: b.latency.quantileMS(950), LatencyP99MS: b.latency.quantileMS(990),
		TTFTP50MS: b.ttft.quantileMS(500), TTFTP99MS: b.ttft.quantileMS(990),
	}
	for model, sums := range b.models {
		d.Models = append(d.Models, ModelSums{Model: model, Sums: *sums})
	}
	for team, sums := range b.teams {
		d.Teams = append(d.Teams, TeamSums{TeamID: team, Sums: *sums})
	}
	slices.SortFunc(d.Models, func(x, y ModelSums) int {
		return cmp.Or(cmp.Compare(y.Requests, x.Requests), cmp.Compare(x.Model, y.Model))
	})
	slices.SortFunc(d.Teams, func(x, y TeamSums) int {
		return cmp.Or(y.Cost.Cmp(x.Cost), strings.Compare(x.TeamID.String(), y.TeamID.String()))
	})
	return d
}
