package httpapi

import (
	"net/http"

	"aione/keys"
	"aione/ledger"

	"github.com/google/uuid"
)

// explanation is how a line of an invoice comes about.
type explanation struct {
	InvoiceID uuid.UUID   `json:"invoice_id"`
	InvoiceNo string      `json:"invoice_no"`
	Currency  string      `json:"currency"`
	Line      invoiceLine `json:"line"`
	Steps     []string    `json:"steps" doc:"The arithmetic in words, a step each."`
	Price     *linePrice  `json:"price,omitempty" doc:"The price version that the line was rated at, in full; only of usage at list price."`
}

// linePrice is the price version of a line.
type linePrice priceResponse

// explainLine serves GET …/invoices/{invoice_id}/lines/{n}/explain.
func (s *Server) explainLine(of subject) authorised {
	return func(w http.ResponseWriter, r *http.Request, caller *keys.Key) error {
		org, err := of(r, caller)
		if err != nil {
			return err
		}
		n, err := pathNumber(r, "n")
		if err != nil {
			return err
		}
		inv, err := s.invoiceOf(r, org)
		if err != nil {
			return err
		}
		line, err := lineOf(&inv, n)
		if err != nil {
			return err
		}
		steps, err := ledger.Explain(inv, n)
		if err != nil {
			return err
		}
		answer := explanation{InvoiceID: inv.ID, InvoiceNo: inv.Number, Currency: inv.Currency, Line: newInvoiceLine(n, line, inv.Currency), Steps: steps}
		if p, ok := inv.PriceOf(line.PriceVersion); ok {
			price := linePrice(newPriceResponse(p))
			answer.Price = &price
		}
		writeJSON(w, http.StatusOK, answer)
		return nil
	}
}

// lineOf finds a line by its number, or returns a not-found error.
func lineOf(inv *ledger.Invoice, n int) (*ledger.Line, error) {
	if n > len(inv.Lines) {
		return nil, &apiError{status: http.StatusNotFound, detail: "not found"}
	}
	return &inv.Lines[n-1], nil
}
