// Package webhooks tells customers' systems what happened: the endpoints of an
// org, the messages made from records of the ledger, and their delivery.
//
// Everything is a fold over the ledger: an endpoint over its records on the org's
// webhook subject, a message over the record it tells of, its delivery over the
// outcomes on the org's delivery subject. So nothing that happened is forgotten,
// whatever dies: a message waits until an outcome in the log says otherwise.
//
// Invariants:
//
//   - At least once: a message that an endpoint wanted when it happened is
//     attempted until it is answered with 2xx or its attempts are used up; then it
//     is dead, which is listed and can be replayed. A copy has the same id.
//   - An attempt is followed by another only after its outcome is in the log. What
//     a crash repeats are the attempts of about the last second.
//   - One process delivers at a time, by a lease; an outcome decided on old
//     knowledge is refused by the log.
//   - A message exists only for types that were announced in the log before it. A
//     build that knows more types tells nobody of what happened before it.
//   - No secret is in the log: secrets are derived from the operator's pepper, the
//     endpoint and a version. No error or log line carries one, a URL, or anything
//     that an endpoint answered.
//   - A connection is made only to an address that was checked when it was dialled.
//   - Everything is bounded: endpoints of an org, messages that wait for one, what
//     is remembered, attempts at the same time, the time and size of an answer. An
//     endpoint that fails or is slow has few attempts at a time and delays no other.
//
// The package knows nothing of billing: what is an event is said by a Translate
// function. It never reads a clock of its own and never follows the log itself
// (records come in by Book.Apply).
package webhooks
