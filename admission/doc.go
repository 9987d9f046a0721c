// Package admission holds whether a request may be let in: rate limits of keys
// and plans, prepaid balance and credit, monthly budgets of orgs, teams and keys,
// the included usage of plans that block.
//
// A request takes its upper bound from every account and bucket that applies, all
// or none, before it goes upstream (Limiter.Reserve), and is settled at what it
// really cost when its usage is durable (Hold.Settle).
//
// Invariants: spent + held never passes a limit by a reservation, under any
// concurrency; only a cost above its own bound, a limit that was lowered, or usage
// that others report afterwards can put spent over it. What does not fit now but
// may fit when running requests settle below their bounds waits its turn, so a
// budget fills as far as bounds allow; nobody overtakes on an account that an
// earlier request waits for, so a large one does not starve. Usage counts in the
// month of the org's time zone in which it occurred, whenever it is settled; included
// usage in the segment of its billing period, as the ledger splits it.
// Limits and credits are records of the ledger and spend is the usage log: after
// kill -9 both are read back (Restore) and nothing is forgotten.
//
// Several replicas share an org's accounts by allowances, written to the ledger
// under optimistic concurrency. For each account
//
//	limit ≥ spent + Σ over replicas (allowance − the spend it has stated)
//
// and a replica lets in no more than its allowance. Only getting an allowance
// costs a round trip; using it costs nothing more than a comparison. Rate limits
// are split evenly among the live replicas. What a replica that died was allowed is
// free again when all that it let in is settled for certain; a process known to have
// taken its place (Succeed) takes it over at once, with what is still on its way.
//
// The package never reads the machine's clock, never uses a binary fraction,
// never prices anything, never writes usage, and does no I/O on the way of a
// request that need not wait.
package admission
