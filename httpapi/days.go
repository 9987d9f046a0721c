package httpapi

import (
	"time"

	"aione/ledger"
)

// span is a run of whole days of a time zone, as dates and as instants.
type span struct {
	first, last ledger.Date // inclusive
	from, to    time.Time   // half-open
}

func daysOf(first, last ledger.Date, zone *time.Location) span {
	return span{first: first, last: last, from: startOfDay(first, zone), to: startOfDay(last.AddDays(1), zone)}
}

// count is the number of days.
func (s span) count() int {
	return int(midnightUTC(s.last).Sub(midnightUTC(s.first))/day) + 1
}

func midnightUTC(d ledger.Date) time.Time {
	return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC)
}

// Clocks are between 16 hours behind and 16 ahead of UTC, and since 2000 always by
// a multiple of a quarter of an hour.
const (
	offsetMax  = 16 * time.Hour
	offsetStep = 15 * time.Minute
)

// startOfDay is the first instant whose local date is d or later. That is not
// always a midnight: some zones change their clocks there.
func startOfDay(d ledger.Date, zone *time.Location) time.Time {
	t := midnightUTC(d).Add(-offsetMax)
	for before(ledger.DateOf(t, zone), d) {
		t = t.Add(offsetStep)
	}
	return t
}

func before(a, b ledger.Date) bool { return midnightUTC(a).Before(midnightUTC(b)) }
