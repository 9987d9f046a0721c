// Package events holds what happened: the usage events, admissions and ledger
// records of the platform, their wire formats, and the Log, the JetStream
// streams they live in.
//
// The log is the truth. Everything else, ClickHouse included, is a projection
// that can be thrown away and rebuilt from it, so this package guarantees:
//
//   - An id is minted once, at the source, and never again on a retry.
//   - A nil error from Publish, Admit or Append means the bytes are fsynced in
//     the log. A timeout is ErrUnknown, never "failed": the retry sends the same
//     bytes under the same message id.
//   - What is in the log is never edited: the streams refuse deletes and purges,
//     have no age limit, and refuse new messages, not old ones, when full.
//   - A reader meets every sequence in order, without gaps, or gets an error.
//   - A message that a reader cannot understand is an error value that names its
//     sequence; it never panics and never stops the stream.
//
// The package never rates, never reads ClickHouse, never looks at a clock (the
// id mint and JetStream's own time stamps aside), and imports no other package
// of this module.
package events
