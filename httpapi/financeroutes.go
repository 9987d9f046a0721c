package httpapi

import (
	"net/http"

	"aione/keys"
)

// created is the answer of an order that made something; of what type says ordered.
var created = success{status: http.StatusCreated}

// financeRoutes are what operators do about money.
func (s *Server) financeRoutes() []route {
	if s.config.Finance == nil {
		return nil
	}
	routes := append(s.orgMoneyRoutes(), s.invoiceAdminRoutes()...)
	routes = append(routes, s.planRoutes()...)
	routes = append(routes, s.exportRoutes("/admin/v1/orgs/{org_id}", "OfOrg", ofPath)...)
	for i := range routes {
		at := &routes[i]
		at.tag, at.scope = tagOperators, keys.ScopeAdmin
		if at.method == "" {
			at.method = http.MethodGet
		}
		if at.method == http.MethodGet {
			continue
		}
		at.params, at.answer.replayed = append(at.params, idempotencyKey), true
		at.refusals = append(at.refusals, refusal{status: http.StatusConflict,
			doc: "The Idempotency-Key was used for another request, or the books do not allow it: the detail says which."})
	}
	return routes
}

// orgMoneyRoutes are about one org's money.
func (s *Server) orgMoneyRoutes() []route {
	const org = "/admin/v1/orgs/{org_id}"
	paged := []param{pageNumber, invoicesPageSize}
	return []route{{
		path: org + "/credits", id: "listCreditsOfOrg", summary: "List Credits of an Organisation", serve: s.listCredits(ofPath),
		params: paged, answer: success{of: []creditItem{}, paged: true},
	}, ordered(s, route{
		method: http.MethodPost, path: org + "/credits", id: "addCredit", summary: "Add Credit",
		doc:    "A top-up that was paid in, or a promotional credit. Invoices use those first that expire first, promotional before prepaid.",
		body:   body{example: `{"kind":"promotional","amount":"200.00","expires_at":"2027-03-31T16:00:00Z","source":"welcome","reason":"new customer"}`},
		answer: created,
	}, s.orgOfPath, s.addCredit, newGrantedCredit), {
		path: org + "/payments", id: "listPaymentsOfOrg", summary: "List Payments of an Organisation", serve: s.listPayments(ofPath),
		params: paged, answer: success{of: []paymentItem{}, paged: true},
	}, ordered(s, route{
		method: http.MethodPost, path: org + "/payments", id: "addPayment", summary: "Record Payment",
		doc:    "Money that came in for invoices. What is left over becomes prepaid.",
		body:   body{example: `{"amount":"1280.50","reference":"TT-20261201-7"}`},
		answer: created,
	}, s.orgOfPath, s.addPayment, newPaid), ordered(s, route{
		method: http.MethodPost, path: org + "/refunds", id: "addRefund", summary: "Refund",
		doc:    "Prepaid money goes back to the organisation.",
		body:   body{example: `{"amount":"100.00","reference":"TT-20261202-1","reason":"contract ended"}`},
		answer: created,
	}, s.orgOfPath, s.addRefund, newRefundItem), {
		path: org + "/credit-notes", id: "listCreditNotesOfOrg", summary: "List Credit Notes of an Organisation", serve: s.listCreditNotes(ofPath),
		params: paged, answer: success{of: []creditNoteItem{}, paged: true},
	}, {
		path: org + "/invoices", id: "listInvoicesOfOrg", summary: "List Invoices of an Organisation", serve: s.listInvoices(ofPath),
		params: paged, answer: success{of: []invoiceSummary{}, counted: true, paged: true},
	}, {
		path: org + "/changes", id: "listChanges", summary: "List Changes of an Organisation", serve: s.listChanges(ofPath),
		doc:    "The audit trail: what happened to it, who did it, when and why, the newest first.",
		params: paged, answer: success{of: []changeItem{}, paged: true},
	}, {
		path: org + "/billing-profile", id: "getBillingProfile", summary: "Get Billing Profile", serve: s.getProfile, answer: success{of: profileResponse{}},
	}, ordered(s, route{
		method: http.MethodPut, path: org + "/billing-profile", id: "setBillingProfile", summary: "Set Billing Profile",
		doc: "Who is invoiced, with which taxes and terms, from an instant on; all of it: what is left out is the default.",
		body: body{example: `{"bill_to":{"name":"Acme Ltd.","address":["1 Main Street","Shanghai"],"tax_id":"91310000MA1X"},` +
			`"tax_rates":[{"name":"VAT","pct":"6"}],"terms_days":30}`},
	}, s.orgOfPath, s.setProfile, s.profileOf)}
}

// invoiceAdminRoutes put invoices right.
func (s *Server) invoiceAdminRoutes() []route {
	const invoice = "/admin/v1/invoices/{invoice_id}"
	return []route{{
		path: invoice, id: "getInvoiceOfOrg", summary: "Get Invoice of any Organisation", serve: s.getInvoice(s.ofInvoice), params: []param{documentLanguage, byteOrderMark},
		answer: success{of: invoiceDetail{}, other: []content{{media: pdfType}, {media: csvType}}, counted: true},
		refusals: []refusal{{status: http.StatusConflict, doc: "A PDF was asked for, and a name on it cannot be shown."},
			{status: http.StatusTooManyRequests, doc: "Too many documents are asked for at once."}},
	}, ordered(s, route{
		method: http.MethodPost, path: invoice + "/void", id: "voidInvoice", summary: "Void Invoice",
		doc:  "Takes the whole invoice back by a credit note.",
		body: body{example: `{"reason":"issued to the wrong organisation"}`}, answer: created,
	}, s.invoiceOfPath, s.voidInvoice, newNoted), ordered(s, route{
		method: http.MethodPost, path: invoice + "/credit-notes", id: "addCreditNote", summary: "Issue Credit Note",
		doc:  "Takes lines of an invoice back, in part.",
		body: body{example: `{"lines":[{"line":1,"amount":"12.50"}],"reason":"goodwill for the outage"}`}, answer: created,
	}, s.invoiceOfPath, s.addCreditNote, newNoted), ordered(s, route{
		method: http.MethodPost, path: invoice + "/write-off", id: "writeOff", summary: "Write Off",
		doc:  "Gives up what is still to be paid.",
		body: body{example: `{"reason":"insolvent"}`}, answer: created,
	}, s.invoiceOfPath, s.writeOff, newWriteOffItem), ordered(s, route{
		method: http.MethodPost, path: invoice + "/re-rate", id: "reRate", summary: "Re-rate Invoice (dry run)",
		doc:  "What the invoice would be with something put right. Writes nothing.",
		body: body{example: `{"prices":[{"from":"gpt-4o@1","to":"gpt-4o@2"}],"reason":"price list of December applies"}`},
	}, s.invoiceOfPath, s.reRate, newReRateResponse), ordered(s, route{
		method: http.MethodPost, path: invoice + "/correct", id: "correctInvoice", summary: "Correct Invoice",
		doc: "Carries out what a dry run said, if it still comes to the same: the invoice is void by a credit note, and another one replaces it.",
		body: body{example: `{"prices":[{"from":"gpt-4o@1","to":"gpt-4o@2"}],` +
			`"agreed":"0000000000000000000000000000000000000000000000000000000000000000","reason":"price list of December applies"}`},
		answer: created,
	}, s.invoiceOfPath, s.correct, s.newCorrectResponse)}
}

// planRoutes are the catalog of plans, who has which, and who invoices.
func (s *Server) planRoutes() []route {
	const entity = "/admin/v1/legal-entities"
	plan := success{of: planDetailResponse{}}
	return []route{{
		path: "/admin/v1/plans", id: "listPlans", summary: "List Plans", serve: s.listPlans, doc: "The newest version of each, by code.",
		params: []param{pageNumber, adminPageSize}, answer: success{of: []publishedPlan{}, paged: true},
	}, ordered(s, route{
		method: http.MethodPost, path: "/admin/v1/plans", id: "publishPlan", summary: "Publish Plan",
		doc: "The next version of a plan. Versions do not change; who has one keeps it.",
		body: body{example: `{"code":"team","name":"Team","monthly_fee":"199.00","included_tokens":2000000,"discount_pct":"10",` +
			`"charges":[{"name":"output","model":"graduated","buckets":["output"],"tiers":[{"up_to":1000000,"unit_price":"60"},{"unit_price":"50"}]}]}`},
		answer: created,
	}, ofNothing, s.publishPlan, newPlanPublished), {
		path: "/admin/v1/plans/{code}", id: "getPlan", summary: "Get Plan", serve: s.getPlan, params: []param{planVersion}, answer: success{of: publishedPlan{}},
	}, {
		path: "/admin/v1/orgs/{org_id}/plan", id: "getPlanOfOrg", summary: "Get Plan of an Organisation", serve: s.plan(ofPath), answer: plan,
	}, ordered(s, route{
		method: http.MethodPut, path: "/admin/v1/orgs/{org_id}/plan", id: "assignPlan", summary: "Assign Plan",
		doc:  "Gives an organisation a plan from an instant on: a published one, or one of its own. The same again changes nothing.",
		body: body{example: `{"code":"team","effective_from":"2027-01-01T00:00:00+08:00"}`},
	}, ofPath, s.assignPlan, newAssigned), {
		path: entity, id: "listLegalEntities", summary: "List Legal Entities", serve: s.listLegalEntities, answer: success{of: []legalEntityResponse{}},
	}, {
		path: entity + "/{code}", id: "getLegalEntity", summary: "Get Legal Entity", serve: s.getLegalEntity, answer: success{of: legalEntityResponse{}},
	}, ordered(s, route{
		method: http.MethodPut, path: entity + "/{code}", id: "setLegalEntity", summary: "Set Legal Entity",
		doc: "Who issues invoices, for the documents of invoices made from now on.",
		body: body{example: `{"name":"AIone Ltd.","address":["1 Main Street","Shanghai"],` +
			`"bank":{"account_name":"AIone Ltd.","bank_name":"Bank of Shanghai","account_number":"1234"}}`},
	}, entityOfPath, s.setLegalEntity, newEntitySet)}
}
