// Package documents makes what a finance department downloads: invoices as PDF
// and CSV, costs and usage as FOCUS, journals for the accounts.
//
// Invariants:
//
//   - A document says what its invoice says. Nothing is billed, rated or rounded
//     here: amounts are added up to be held against the invoice's own, and a
//     document whose sums differ is not made. What splits them is ledger.Apportion.
//   - The same invoice and parties give the same bytes: no clock, no random
//     number, no order of a map, no font of the machine.
//   - Nothing is left blank in silence. A name with a character that the font of
//     the PDF lacks is an error that names it; in machine-made texts such as the
//     names of models it is shown by its number.
//   - A cell of a CSV that a spreadsheet would run as a formula is made inert.
//   - A journal is exported balanced in each currency, with an account code for
//     every posting, or not at all.
//
// The package does no I/O beyond the writer it is given, keeps no state and
// starts no goroutine. It does not know when an invoice is overdue or paid: its
// status is given.
package documents
