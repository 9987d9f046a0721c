// Package billing is the event-sourced write side of money: the commands that
// create orgs and teams and give orgs their plans, and the invoicer that closes
// periods.
//
// Commands decide on a Book, the read model of the ledger's records, and append
// to the event log with optimistic concurrency: the log refuses what was decided
// on old knowledge, the command re-reads and decides anew. Locks are never what
// makes it right.
//
// Invariants:
//
//   - An org has at most one invoice for a period: the run key of (org, period)
//     may be written once, whoever writes it.
//   - Run key, number, invoice and journal are one atomic batch. There is no
//     moment at which one of them exists without the others.
//   - The periods of an org are closed oldest first, without gaps, each at a cut
//     not before the one of its predecessor; so each usage event is on exactly
//     one invoice. The org's journal subject orders all closings of an org.
//   - Numbers of a legal entity and year are 1, 2, 3 … without gaps.
//   - Nothing is invoiced that the usage projection has not counted in full.
//
// The package never looks at a clock of its own, never computes an amount (that
// is package ledger), and never changes a record once written.
package billing
