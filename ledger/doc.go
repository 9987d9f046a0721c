// Package ledger holds what money means here: exact amounts, the rating of
// usage, the terms of plans, billing periods, invoices that can be recomputed,
// credits, payments and credit notes, and the double-entry journals behind all of
// them.
//
// Bill computes an invoice from everything it depends on. A State is where an
// org's money stands: its methods decide what may happen and return an Entry, a
// document with its journal; Apply moves the state by an entry and by nothing else.
//
// Invariants:
//
//   - An Amount is a decimal with at most AmountScale places and is smaller than
//     10^26 either way, so it fits Decimal(38,12). Nothing is ever a float.
//   - Nothing is rounded before an invoice line, and a line is rounded once, by
//     RoundHalfEvenToMinor; shares by days, percentages and taxes out of a price
//     are ratios of integers until then. The total of an invoice is the sum of its
//     lines, and never below zero: what would be is carried to the org.
//   - An invoice carries everything that it was computed from. Recompute gives
//     the same CanonicalBytes for ever, whatever prices or time zones do later.
//   - Usage that was not stamped with quantity × list price is refused, also where
//     it is billed otherwise. Late usage costs what it would have cost in time.
//   - A transfer moves a positive amount from one account to another along an
//     allowed flow; so every journal sums to zero in each currency. Transfers are
//     never changed: corrections are more transfers. The journals of an org are a
//     chain of hashes over them and their documents.
//   - After each entry nothing is accrued, an org's receivable is what its open
//     invoices leave to pay, and its prepaid and promotional accounts are what is
//     left of its credits.
//   - Periods of one time zone and anchor tile time: half-open, no gap, no overlap;
//     so do the segments of a period.
//
// The package is pure. It does no I/O, reads no clock, starts no goroutine, and
// mints no ids: ids are derived from what they name, or are the caller's.
package ledger
