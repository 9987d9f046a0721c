package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"time"
	_ "time/tzdata" // periods must not depend on what the machine has installed
)

// ErrPeriod is returned when a text is no period label such as "2023-11".
var ErrPeriod = errors.New("invalid period")

// Period is a calendar month of an org in its time zone, half-open: Start is in
// it, End is not. The bounds are stored instants: once a period has been
// invoiced, a change of the time zone rules does not move it.
type Period struct {
	Label string    `json:"label"` // "2023-11"
	Start time.Time `json:"start"` // UTC
	End   time.Time `json:"end"`   // UTC
}

// PeriodOf is the period that t lies in.
func PeriodOf(t time.Time, zone *time.Location) Period {
	year, month, _ := t.In(zone).Date()
	p := newPeriod(year, month, zone)
	// Where clocks go back just after midnight of the first, the hour before it
	// comes twice, and its second pass is on a local date outside its period. The
	// other case guards the tiling, should startOfMonth ever step over such a minute.
	switch {
	case t.Before(p.Start):
		return newPeriod(year, month-1, zone)
	case !t.Before(p.End):
		return newPeriod(year, month+1, zone)
	}
	return p
}

// ParsePeriod is the period with a label, "2023-11".
func ParsePeriod(label string, zone *time.Location) (Period, error) {
	t, err := time.Parse("2006-01", label)
	if err != nil {
		return Period{}, fmt.Errorf("%w: %q is not like 2023-11", ErrPeriod, label)
	}
	return newPeriod(t.Year(), t.Month(), zone), nil
}

// Next is the period that starts where p ends.
func (p Period) Next(zone *time.Location) Period {
	first := p.FirstDay()
	next := newPeriod(first.Year, first.Month+1, zone)
	next.Start = p.End
	return next
}

// Contains reports whether t lies in [Start, End).
func (p Period) Contains(t time.Time) bool { return !t.Before(p.Start) && t.Before(p.End) }

// FirstDay is the first local date of the period.
func (p Period) FirstDay() Date {
	t, err := time.Parse("2006-01", p.Label)
	if err != nil {
		return Date{} // a Period is made here or checked by Bill; a zero Date shows what went wrong
	}
	return dateOf(t)
}

// LastDay is the last local date of the period.
func (p Period) LastDay() Date {
	first := p.FirstDay()
	return dateOf(time.Date(first.Year, first.Month+1, 0, 0, 0, 0, 0, time.UTC))
}

// newPeriod accepts months outside 1 … 12, as time.Date does.
func newPeriod(year int, month time.Month, zone *time.Location) Period {
	first := time.Date(year, month, 1, 0, 0, 0, 0, time.UTC)
	return Period{
		Label: first.Format("2006-01"),
		Start: startOfMonth(first.Year(), first.Month(), zone),
		End:   startOfMonth(first.Year(), first.Month()+1, zone),
	}
}

// startOfMonth is the first instant whose local date is the first of the month
// or later: midnight, or what follows it where the clock skips midnight.
//
// It only asks for offsets. time.Date would give the day before for a midnight
// that is skipped, and Time.ZoneBounds returns an end that is not after its own
// start on the last day of a leap year (Go 1.26, zones with summer time).
func startOfMonth(year int, month time.Month, zone *time.Location) time.Time {
	first := time.Date(year, month, 1, 0, 0, 0, 0, time.UTC) // the wall clock, read as UTC
	reached := func(t time.Time) bool {
		_, offsetSeconds := t.In(zone).Zone()
		return !t.Add(time.Duration(offsetSeconds) * time.Second).Before(first)
	}
	// No zone is or was 16 hours off UTC. Steps are as coarse as every offset in use
	// allows, so that a midnight that comes twice is found the first time.
	after := first.Add(-16 * time.Hour)
	for !reached(after) {
		after = after.Add(15 * time.Minute)
	}
	before := after.Add(-15 * time.Minute)
	for after.Sub(before) > time.Second {
		middle := before.Add(after.Sub(before) / 2).Truncate(time.Second)
		if reached(middle) {
			after = middle
		} else {
			before = middle
		}
	}
	return after
}

// Date is a day of the calendar, without a time zone.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

// DateOf is the local date of t.
func DateOf(t time.Time, zone *time.Location) Date { return dateOf(t.In(zone)) }

func dateOf(t time.Time) Date {
	y, m, d := t.Date()
	return Date{Year: y, Month: m, Day: d}
}

// AddDays is the date n days later.
func (d Date) AddDays(n int) Date {
	return dateOf(time.Date(d.Year, d.Month, d.Day+n, 0, 0, 0, 0, time.UTC))
}

// Before reports whether d is an earlier day than e.
func (d Date) Before(e Date) bool {
	return cmp.Or(cmp.Compare(d.Year, e.Year), cmp.Compare(d.Month, e.Month), cmp.Compare(d.Day, e.Day)) < 0
}

// String is ISO 8601, "2023-11-30".
func (d Date) String() string { return fmt.Sprintf("%04d-%02d-%02d", d.Year, int(d.Month), d.Day) }

// MarshalText writes String.
func (d Date) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what String writes.
func (d *Date) UnmarshalText(b []byte) error {
	t, err := time.Parse(time.DateOnly, string(b))
	if err != nil {
		return fmt.Errorf("%q is not a date like 2023-11-30", b)
	}
	*d = dateOf(t)
	return nil
}
