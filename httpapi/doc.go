// Package httpapi serves the platform's HTTP API: usage, dashboards, invoices,
// the intake of usage from other producers, health and metrics. The chat gateway
// is mounted beside it, with its own dialect, as it is.
//
// Invariants:
//
//   - The org of a request is that of its token, never of a parameter. What is
//     another org's is answered like what does not exist: 404.
//   - A route needs exactly one scope; no scope stands for another.
//   - Usage, dashboard and invoice answers say how far they have counted, read
//     before what it vouches for. What cannot be counted is a 503, never zeros.
//   - Events are answered 202 only when they are fsynced in the log. An event is
//     priced when it occurred, by the catalog, or rejected; none is free because
//     its model or price is unknown.
//   - Money and percentages leave as exact strings; nothing is ever a float.
//   - Every 422 is an HTTPValidationError, every other error {"detail": "…"}, and
//     an error nobody foresaw is logged and answered "internal error".
//
// Handlers decode, make one call and encode. The package holds no state but
// counters, decides nothing about money, never writes to ClickHouse, never logs
// a token, and reads no clock but Config.Now.
package httpapi
