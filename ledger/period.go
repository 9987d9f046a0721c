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

// Period is a billing month of an org in its time zone, half-open: Start is in
// it, End is not. It begins on the anchor day, or on the last day of a month that
// has no such day. The bounds are stored instants: once a period has been
// invoiced, a change of the time zone rules does not move it.
type Period struct {
	Label  string    `json:"label"`            // "2023-11", the month of the first local date
	Start  time.Time `json:"start"`            // UTC
	End    time.Time `json:"end"`              // UTC
	Anchor int       `json:"anchor,omitempty"` // day of the month, 1 … 31; 0 is 1
}

// ErrAnchor is returned when an anchor day is not 1 … 31.
var ErrAnchor = errors.New("invalid anchor day")

// PeriodOf is the calendar month that t lies in.
func PeriodOf(t time.Time, zone *time.Location) Period { return periodOf(t, zone, 1) }

// AnchoredPeriodOf is the period that t lies in when periods begin on a day of
// the month other than the first; ErrAnchor unless that is 1 … 31.
func AnchoredPeriodOf(t time.Time, zone *time.Location, anchor int) (Period, error) {
	if anchor < 1 || anchor > 31 {
		return Period{}, fmt.Errorf("%w: %d", ErrAnchor, anchor)
	}
	return periodOf(t, zone, anchor), nil
}

func periodOf(t time.Time, zone *time.Location, anchor int) Period {
	year, month, _ := t.In(zone).Date()
	p := newPeriod(year, month, zone, anchor)
	// Before the anchor the period is that of the month before. Where clocks go back
	// just after the midnight it starts at, the hour before it comes twice, and its
	// second pass is on a local date outside its period.
	switch {
	case t.Before(p.Start):
		return newPeriod(year, month-1, zone, anchor)
	case !t.Before(p.End):
		return newPeriod(year, month+1, zone, anchor)
	}
	return p
}

// ParsePeriod is the calendar month with a label, "2023-11".
func ParsePeriod(label string, zone *time.Location) (Period, error) {
	return ParseAnchoredPeriod(label, zone, 1)
}

// ParseAnchoredPeriod is the period with a label and an anchor day.
func ParseAnchoredPeriod(label string, zone *time.Location, anchor int) (Period, error) {
	t, err := time.Parse("2006-01", label)
	if err != nil {
		return Period{}, fmt.Errorf("%w: %q is not like 2023-11", ErrPeriod, label)
	}
	if anchor < 1 || anchor > 31 {
		return Period{}, fmt.Errorf("%w: %d", ErrAnchor, anchor)
	}
	return newPeriod(t.Year(), t.Month(), zone, anchor), nil
}

// Next is the period that starts where p ends, with the same anchor.
func (p Period) Next(zone *time.Location) Period {
	first := p.FirstDay()
	next := newPeriod(first.Year, first.Month+1, zone, p.anchor())
	next.Start = p.End
	return next
}

func (p Period) anchor() int { return max(p.Anchor, 1) }

// Contains reports whether t lies in [Start, End).
func (p Period) Contains(t time.Time) bool { return !t.Before(p.Start) && t.Before(p.End) }

// FirstDay is the first local date of the period.
func (p Period) FirstDay() Date {
	t, err := time.Parse("2006-01", p.Label)
	if err != nil {
		return Date{} // a Period is made here or checked by Bill; a zero Date shows what went wrong
	}
	return anchorDay(t.Year(), t.Month(), p.anchor())
}

// LastDay is the last local date of the period.
func (p Period) LastDay() Date {
	first := p.FirstDay()
	return anchorDay(first.Year, first.Month+1, p.anchor()).AddDays(-1)
}

// anchorDay is the anchor's date in a month, its last day in a shorter one. It
// accepts months outside 1 … 12, as time.Date does.
func anchorDay(year int, month time.Month, anchor int) Date {
	last := time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC)
	return Date{last.Year(), last.Month(), min(anchor, last.Day())}
}

// newPeriod accepts months outside 1 … 12, as time.Date does.
func newPeriod(year int, month time.Month, zone *time.Location, anchor int) Period {
	first := anchorDay(year, month, anchor)
	return Period{
		Label:  fmt.Sprintf("%04d-%02d", first.Year, int(first.Month)),
		Start:  startOfDay(first, zone),
		End:    startOfDay(anchorDay(year, month+1, anchor), zone),
		Anchor: anchor,
	}
}

// startOfDay is the first instant whose local date is d or later: midnight, or
// what follows it where the clock skips midnight or the whole day.
//
// It only asks for offsets. time.Date would give the day before for a midnight
// that is skipped, and Time.ZoneBounds returns an end that is not after its own
// start on the last day of a leap year (Go 1.26, zones with summer time).
func startOfDay(d Date, zone *time.Location) time.Time {
	first := time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC) // the wall clock, read as UTC
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

// DaysUntil is how many days after d the date e is.
func (d Date) DaysUntil(e Date) int {
	at := func(d Date) int64 { return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC).Unix() }
	return int((at(e) - at(d)) / (24 * 60 * 60))
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
