package httpapi

import (
	"net/http"

	"aione/keys"
)

// billingRoutes are an org's own invoices and money.
func (s *Server) billingRoutes() []route {
	const root = "/api/v1/billing"
	paged := []param{pageNumber, invoicesPageSize}
	document := []param{documentLanguage, byteOrderMark}
	invoice := success{of: invoiceDetail{}, other: []content{{media: pdfType}, {media: csvType}}, counted: true}
	noDocument := []refusal{{status: http.StatusConflict, doc: "A PDF was asked for, and a name on it cannot be shown."},
		{status: http.StatusTooManyRequests, doc: "The organisation asks for too many documents at once."}}
	routes := []route{{
		path: root + "/invoices", id: "listInvoices", summary: "List Invoices", doc: "Issued invoices, the last issued first.",
		serve: s.listInvoices(ofCaller), params: paged, answer: success{of: []invoiceSummary{}, counted: true, paged: true},
	}, {
		path: root + "/invoices/{invoice_id}", id: "getInvoice", summary: "Get Invoice", serve: s.getInvoice(ofCaller),
		doc: "One invoice with its lines: total = subtotal + adjustments - discount + tax - credits_applied + carried. " +
			"With `Accept: application/pdf` the document, with `text/csv` its lines.",
		params: document, answer: invoice, refusals: noDocument,
	}, {
		path: root + "/invoices/{invoice_id}/lines/{n}/explain", id: "explainLine", summary: "Explain an Invoice Line",
		doc:   "The arithmetic of a line in words: price version, quantity, tiers, days, rounding.",
		serve: s.explainLine(ofCaller), answer: success{of: explanation{}},
	}, {
		path: root + "/credits", id: "listCredits", summary: "List Credits", doc: "Prepaid money and promotional credits, the newest first.",
		serve: s.listCredits(ofCaller), params: paged, answer: success{of: []creditItem{}, paged: true},
	}, {
		path: root + "/payments", id: "listPayments", summary: "List Payments", doc: "The newest first.",
		serve: s.listPayments(ofCaller), params: paged, answer: success{of: []paymentItem{}, paged: true},
	}, {
		path: root + "/credit-notes", id: "listCreditNotes", summary: "List Credit Notes", doc: "The newest first.",
		serve: s.listCreditNotes(ofCaller), params: paged, answer: success{of: []creditNoteItem{}, paged: true},
	}, {
		path: root + "/credit-notes/{credit_note_id}", id: "getCreditNote", summary: "Get Credit Note",
		doc:   "One credit note, with `Accept: application/pdf` as a document.",
		serve: s.getCreditNote(ofCaller), params: []param{documentLanguage}, refusals: noDocument,
		answer: success{of: creditNoteDetail{}, other: []content{{media: pdfType}}},
	}}
	if s.config.Upcoming != nil {
		routes = append(routes, route{
			path: root + "/invoices/upcoming", id: "getUpcomingInvoice", summary: "Get Upcoming Invoice",
			doc:   "The current period as if it ended now: a draft. A period with nothing to bill so far is a draft of zero.",
			heavy: true, serve: s.upcomingInvoice, params: document, answer: invoice, refusals: noDocument[:1],
		}, route{
			path: root + "/invoices/drafts", id: "listDrafts", summary: "List Drafts",
			doc:   "The invoices of all open periods as they would be issued now, the oldest first: of those that have ended and are in their grace, and of the current one.",
			heavy: true, serve: s.listDrafts, answer: success{of: []invoiceDetail{}, counted: true},
		})
	}
	routes = append(routes, s.exportRoutes(root, "", ofCaller)...)
	for i := range routes {
		routes[i].method, routes[i].tag, routes[i].scope = http.MethodGet, tagBilling, keys.ScopeBillingRead
	}
	return routes
}

// exportRoutes are the exports of an org below a path; suffix keeps the ids of the
// operator's apart.
func (s *Server) exportRoutes(below, suffix string, of subject) []route {
	table := success{other: []content{{media: csvType}}}
	days := []param{exportFrom, exportTo, byteOrderMark}
	return []route{{
		path: below + "/exports/focus", id: "exportFocus" + suffix, summary: "Export FOCUS",
		doc: "Cost and usage by FOCUS 1.2, as CSV: the charges of the invoices whose period begins in the range, and of the credit notes issued in it. " +
			"Usage has a row for each team, its sub account. The sum of BilledCost over an InvoiceId is what that invoice bills.",
		heavy: true, within: s.limits.ExportWithin, serve: s.exported(of, "focus", s.focus), params: days, answer: table,
	}, {
		path: below + "/exports/journal", id: "exportJournal" + suffix, summary: "Export Journals",
		doc:   "The journals booked in the range, for an accounting system, as CSV: a debit and a credit for each transfer, balanced.",
		heavy: true, within: s.limits.ExportWithin, serve: s.exported(of, "journal", s.journals), params: days, answer: table,
	}}
}
