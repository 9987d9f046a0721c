// Package httpapi serves the platform's HTTP API: API keys, models, usage,
// dashboards, billing and its documents, webhooks, the intake of usage from other producers, the operator's
// commands, health and metrics. The chat gateway is mounted beside it, with its
// own dialect, as it is.
//
// Invariants:
//
//   - The table of routes is the one source: routing, authorisation, bounds, the
//     OpenAPI document and its reference come from it, and bodies are held
//     against the document's own schemas. Tests hold every answer against it.
//   - The org of a request is that of its token, never of a parameter. What is
//     another org's is answered like what does not exist: 404.
//   - A route needs exactly one scope; no scope stands for another. The routes of
//     keys know API keys only, so that a token that may write keys cannot rotate
//     one that may more and so become it.
//   - A body assigns what its schema names and nothing else: more is a 422.
//   - Usage, dashboard and invoice answers say how far they have counted, read
//     before what it vouches for. What cannot be counted is a 503, never zeros.
//   - Events are answered 202 only when they are fsynced in the log. An event is
//     priced when it occurred, by the catalog, or rejected; none is free because
//     its model or price is unknown.
//   - Every command can be repeated: what it makes is named by its
//     Idempotency-Key or its content, and the ledger knows it. A command about
//     money says when it was carried out before, also after a restart.
//   - A document names the parties as they were when its invoice was issued; an
//     export is whole, or its connection is cut.
//   - Money and percentages leave as exact strings; nothing is ever a float.
//   - Every 422 is an HTTPValidationError, every other error {"detail": "…"}, and
//     an error nobody foresaw is logged and answered "internal error". Neither the
//     log nor an error repeats a token.
//
// Handlers decode, make one call and encode. The package holds no state but
// counters, turns and the last idempotency keys, decides nothing about money,
// never writes to ClickHouse, never logs a token, and reads no clock but
// Config.Now.
package httpapi
