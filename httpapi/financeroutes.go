package httpapi

import (
	"net/http"

	"aione/keys"
)

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
	}, {
		method: http.MethodPost, path: org + "/credits", id: "addCredit", summary: "Add Credit", serve: s.addCredit,
		doc:    "A top-up that was paid in, or a promotional credit. Invoices use those first that expire first, promotional before prepaid.",
		body:   body{of: creditRequest{}, example: `{"kind":"promotional","amount":"200.00","expires_at":"2027-03-31T16:00:00Z","source":"welcome","reason":"new customer"}`},
		answer: success{status: http.StatusCreated, of: grantedCredit{}},
	}, {
		path: org + "/payments", id: "listPaymentsOfOrg", summary: "List Payments of an Organisation", serve: s.listPayments(ofPath),
		params: paged, answer: success{of: []paymentItem{}, paged: true},
	}, {
		method: http.MethodPost, path: org + "/payments", id: "addPayment", summary: "Record Payment", serve: s.addPayment,
		doc:    "Money that came in for invoices. What is left over becomes prepaid.",
		body:   body{of: paymentRequest{}, example: `{"amount":"1280.50","reference":"TT-20261201-7"}`},
		answer: success{status: http.StatusCreated, of: paymentItem{}},
	}, {
		method: http.MethodPost, path: org + "/refunds", id: "addRefund", summary: "Refund", serve: s.addRefund,
		doc:    "Prepaid money goes back to the organisation.",
		body:   body{of: refundRequest{}, example: `{"amount":"100.00","reference":"TT-20261202-1","reason":"contract ended"}`},
		answer: success{status: http.StatusCreated, of: refundItem{}},
	}, {
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
	}, {
		method: http.MethodPut, path: org + "/billing-profile", id: "setBillingProfile", summary: "Set Billing Profile", serve: s.setProfile,
		doc: "Who is invoiced, with which taxes and terms, from an instant on; all of it: what is left out is the default.",
		body: body{of: profileRequest{}, example: `{"bill_to":{"name":"Acme Ltd.","address":["1 Main Street","Shanghai"],"tax_id":"91310000MA1X"},` +
			`"tax_rates":[{"name":"VAT","pct":"6"}],"terms_days":30}`},
		answer: success{of: profileResponse{}},
	}}
}

// invoiceAdminRoutes put invoices right.
func (s *Server) invoiceAdminRoutes() []route {
	const invoice = "/admin/v1/invoices/{invoice_id}"
	note := success{status: http.StatusCreated, of: creditNoteDetail{}}
	return []route{{
		path: invoice, id: "getInvoiceOfOrg", summary: "Get Invoice of any Organisation", serve: s.getInvoice(s.ofInvoice), params: []param{documentLanguage, byteOrderMark},
		answer: success{of: invoiceDetail{}, other: []content{{media: pdfType}, {media: csvType}}, counted: true},
		refusals: []refusal{{status: http.StatusConflict, doc: "A PDF was asked for, and a name on it cannot be shown."},
			{status: http.StatusTooManyRequests, doc: "Too many documents are asked for at once."}},
	}, {
		method: http.MethodPost, path: invoice + "/void", id: "voidInvoice", summary: "Void Invoice", serve: s.voidInvoice,
		doc:  "Takes the whole invoice back by a credit note.",
		body: body{of: reasonRequest{}, example: `{"reason":"issued to the wrong organisation"}`}, answer: note,
	}, {
		method: http.MethodPost, path: invoice + "/credit-notes", id: "addCreditNote", summary: "Issue Credit Note", serve: s.addCreditNote,
		doc:  "Takes lines of an invoice back, in part.",
		body: body{of: creditNoteRequest{}, example: `{"lines":[{"line":1,"amount":"12.50"}],"reason":"goodwill for the outage"}`}, answer: note,
	}, {
		method: http.MethodPost, path: invoice + "/write-off", id: "writeOff", summary: "Write Off", serve: s.writeOff,
		doc:  "Gives up what is still to be paid.",
		body: body{of: reasonRequest{}, example: `{"reason":"insolvent"}`}, answer: success{status: http.StatusCreated, of: writeOffItem{}},
	}, {
		method: http.MethodPost, path: invoice + "/re-rate", id: "reRate", summary: "Re-rate Invoice (dry run)", serve: s.reRate,
		doc:    "What the invoice would be with something put right. Writes nothing.",
		body:   body{of: reRateRequest{}, example: `{"prices":[{"from":"gpt-4o@1","to":"gpt-4o@2"}],"reason":"price list of December applies"}`},
		answer: success{of: reRateResponse{}},
	}, {
		method: http.MethodPost, path: invoice + "/correct", id: "correctInvoice", summary: "Correct Invoice", serve: s.correct,
		doc: "Carries out what a dry run said, if it still comes to the same: the invoice is void by a credit note, and another one replaces it.",
		body: body{of: correctRequest{}, example: `{"prices":[{"from":"gpt-4o@1","to":"gpt-4o@2"}],` +
			`"agreed":"0000000000000000000000000000000000000000000000000000000000000000","reason":"price list of December applies"}`},
		answer: success{status: http.StatusCreated, of: correctResponse{}},
	}}
}

// planRoutes are the catalog of plans, who has which, and who invoices.
func (s *Server) planRoutes() []route {
	const entity = "/admin/v1/legal-entities"
	plan := success{of: planDetailResponse{}}
	return []route{{
		path: "/admin/v1/plans", id: "listPlans", summary: "List Plans", serve: s.listPlans, doc: "The newest version of each, by code.",
		params: []param{pageNumber, adminPageSize}, answer: success{of: []publishedPlan{}, paged: true},
	}, {
		method: http.MethodPost, path: "/admin/v1/plans", id: "publishPlan", summary: "Publish Plan", serve: s.publishPlan,
		doc: "The next version of a plan. Versions do not change; who has one keeps it.",
		body: body{of: publishRequest{}, example: `{"code":"team","name":"Team","monthly_fee":"199.00","included_tokens":2000000,"discount_pct":"10",` +
			`"charges":[{"name":"output","model":"graduated","buckets":["output"],"tiers":[{"up_to":1000000,"unit_price":"60"},{"unit_price":"50"}]}]}`},
		answer: success{status: http.StatusCreated, of: publishedPlan{}},
	}, {
		path: "/admin/v1/plans/{code}", id: "getPlan", summary: "Get Plan", serve: s.getPlan, params: []param{planVersion}, answer: success{of: publishedPlan{}},
	}, {
		path: "/admin/v1/orgs/{org_id}/plan", id: "getPlanOfOrg", summary: "Get Plan of an Organisation", serve: s.plan(ofPath), answer: plan,
	}, {
		method: http.MethodPut, path: "/admin/v1/orgs/{org_id}/plan", id: "assignPlan", summary: "Assign Plan", serve: s.assignPlan,
		doc:  "Gives an organisation a plan from an instant on: a published one, or one of its own. The same again changes nothing.",
		body: body{of: planRequest{}, example: `{"code":"team","effective_from":"2027-01-01T00:00:00+08:00"}`}, answer: plan,
	}, {
		path: entity, id: "listLegalEntities", summary: "List Legal Entities", serve: s.listLegalEntities, answer: success{of: []legalEntityResponse{}},
	}, {
		path: entity + "/{code}", id: "getLegalEntity", summary: "Get Legal Entity", serve: s.getLegalEntity, answer: success{of: legalEntityResponse{}},
	}, {
		method: http.MethodPut, path: entity + "/{code}", id: "setLegalEntity", summary: "Set Legal Entity", serve: s.setLegalEntity,
		doc: "Who issues invoices, for the documents of invoices made from now on.",
		body: body{of: legalEntityRequest{}, example: `{"name":"AIone Ltd.","address":["1 Main Street","Shanghai"],` +
			`"bank":{"account_name":"AIone Ltd.","bank_name":"Bank of Shanghai","account_number":"1234"}}`},
		answer: success{of: legalEntityResponse{}},
	}}
}
