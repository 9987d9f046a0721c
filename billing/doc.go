// Package billing is the event-sourced write side of money: the commands that
// create orgs, teams, plans and profiles, those that move an org's money (top-ups,
// promotions, payments, refunds, write-offs, credit notes, corrections), and the
// invoicer that closes periods, ends credits and announces thresholds.
//
// Commands decide on a Book, the read model of the ledger's records, and append
// to the event log with optimistic concurrency: the log refuses what was decided
// on old knowledge, the command re-reads and decides anew. Locks are never what
// makes it right. What is decided about money is said by package ledger: a fold of
// an org's entries, and pure decisions on it.
//
// Invariants:
//
//   - An org has at most one invoice for a period: the run key of (org, period)
//     may be written once, whoever writes it.
//   - Everything that one decision writes is one atomic batch: run key, number,
//     invoice and journal; a payment, its journal, the statuses of invoices and
//     what admission must know. There is no moment at which one of them exists
//     without the others, nor one at which a reader of the Book sees part of them.
//   - What moves an org's money is on its journal subject, in one order, chained by
//     hashes.
//   - The periods of an org are closed oldest first, without gaps, each at a cut
//     not before the one of its predecessor; so each usage event is on exactly
//     one invoice, or was too late and is told of.
//   - Numbers of a legal entity and year are 1, 2, 3 … without gaps, of invoices and
//     of credit notes.
//   - Nothing is invoiced that the usage projection has not counted in full, or while
//     the auditor finds a difference.
//   - An idempotency key is used up by one request of its org, for ever.
//   - What admission has left of an org's balance is its prepaid and promotional
//     credit, less what it owes, less the usage at list price that is not invoiced.
//
// The package never looks at a clock of its own, never computes an amount (that
// is package ledger), and never changes a record once written.
package billing
