// Package demo sends a real trace of LLM requests through the whole platform, as
// HTTP chat requests of several orgs, teams, keys and models, closes the month
// and compares every figure that the API then shows with a recount of the trace.
//
// The recount is independent: it reads the trace, multiplies with the published
// prices in rational numbers and rounds once a line; it shares no arithmetic with
// what it checks. The platform runs on the trace's own clock (2023), so that the
// period can be closed, with real engines, real HTTP and real fsyncs.
package demo
