// Package analytics keeps the ClickHouse projection of the event log: it fills it
// (Ingester), asks it (usage, dashboards, invoice inputs), proves it (Audit) and
// makes it anew (Rebuild).
//
// Invariants:
//
//   - Every event of the log becomes exactly one row, whatever crashes and
//     whatever it is: usage, a copy, a conflict, or bytes nobody can read. Nothing
//     is filtered before it is counted.
//   - The checkpoint is max(stream_seq) of the rows themselves, never an ack, a
//     token or a file. One batch holds whole envelopes, is one INSERT, one block,
//     one partition, and so lands whole or not at all.
//   - (org, event id) is counted once, for ever. The first in stream order counts;
//     a copy is a row marked duplicate; another body under the same id is a row
//     marked conflict, reported and not billed.
//   - Aggregates are projections inside the part; invoices read rows.
//   - Every question names the org it is for, or is an operator's.
//
// What a crash does, at each step of the ingester (fetch → classify → insert):
//
//	after fetch, before insert   nothing is lost: the checkpoint has not moved and the
//	                             log is read again from there
//	during insert                the part is renamed in whole or not at all; what may
//	                             still run is ended, then the checkpoint says which
//	after insert                 nothing is repeated: the checkpoint has moved
//	an answer is lost, or wrong  the next batch begins where the rows end or is not
//	                             inserted; the ingester reads the checkpoint again
//	its lease goes to another    it does not write: its lease says so, then the rows do,
//	                             then ClickHouse does; what it had running is ended
//	during a projection merge    the old parts stay active until the new one is whole
//
// The package never publishes to the log, never rates, never rounds and never
// does arithmetic on money but sums.
package analytics
