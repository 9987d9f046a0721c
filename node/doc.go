// Package node is one process of the platform: it opens the engines, the event
// log and the projection, keeps the read models of the ledger fed, and runs the
// roles that the process was given (ingest, API, invoicer, auditor).
//
//	Engines ──▶ events.Log ──▶ follower ──▶ keys, admission.Limiter, catalog, billing.Book
//	   │             │
//	   │             ├──▶ Ingest   log → ClickHouse rows
//	   └──▶ Store ◀──┘    Serve    gateway, usage, dashboards, invoices
//	                      Invoice  closes periods
//	                      Audit    proves log = rows = usage = invoices
//
// Invariants: everything is closed in the reverse order in which it was opened,
// so that what was accepted is settled before its log closes; a role that fails
// never takes another down; what a command needs is either running already (then
// it is used over loopback) or started for the time of the command.
//
// The package decides nothing about usage or money: it only connects those that do.
package node
