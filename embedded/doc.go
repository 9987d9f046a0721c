// Package embedded runs real NATS and real ClickHouse for one machine, with
// nothing to install beside this binary and one pinned library.
//
// NATS is nats-server in this process: JetStream on disk, every write synced
// before it is acknowledged. ClickHouse is chDB, the ClickHouse engine as a
// library, in a child process (this binary again, see RunChildIfAsked) that
// serves ClickHouse's HTTP interface on loopback. The rest of the project sees
// a URL and a DSN and cannot tell them from a cluster's.
//
// Invariants:
//   - One process owns a directory. A second one gets ErrHeld, at once.
//   - An abort inside the engine costs a restart of the child, never the
//     parent. The parent owns the listening socket, so the DSN stays and
//     connections made meanwhile wait for the next child.
//   - A full disk costs the log a pause: it says so, keeps what it has confirmed,
//     and goes on by itself once there is room.
//   - A response is either complete or ends in an error the client sees.
//   - An INSERT whose body did not arrive whole is cancelled, not shortened.
//   - A setting or parameter is never pasted into SQL.
//
// The package never skips or stubs: without the library it says which command
// fetches it. It installs no signal handlers, and opens nothing but loopback
// unless told to.
package embedded
