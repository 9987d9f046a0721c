// Package ledger holds what money means here: exact amounts, the rating of
// usage, billing periods, invoices that can be recomputed, and the double-entry
// journals behind them.
//
// Invariants:
//
//   - An Amount is a decimal with at most AmountScale places and is smaller than
//     10^26 either way, so it fits Decimal(38,12). Nothing is ever a float.
//   - Nothing is rounded before an invoice line, and a line is rounded once, by
//     RoundHalfEvenToMinor. The total of an invoice is the sum of its lines.
//   - An invoice carries everything that it was computed from. Recompute gives
//     the same CanonicalBytes for ever, whatever prices or time zones do later.
//   - An invoice whose lines do not add up to the cost that was stamped on its
//     usage when it happened is refused, never issued.
//   - A transfer moves a positive amount from one account to another along an
//     allowed flow; so every journal sums to zero in each currency. Transfers are
//     never changed: corrections are more transfers.
//   - Periods of one time zone tile time: half-open, no gap, no overlap.
//
// The package is pure. It does no I/O, reads no clock, starts no goroutine, and
// mints no ids: ids are derived from what they name.
package ledger
