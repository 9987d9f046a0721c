package node

import (
	"aione/documents"
	"aione/ledger"
)

// InvoicePDF is an invoice as a document, as it stands today.
func (n *Node) InvoicePDF(inv ledger.Invoice, language documents.Language) ([]byte, error) {
	zone, err := n.Book.Zone(inv.OrgID)
	if err != nil {
		return nil, err
	}
	at, err := n.Book.Standing(inv.OrgID, inv.ID)
	if err != nil {
		return nil, err
	}
	inv.Status = at.Status(ledger.DateOf(n.Clock(), zone))
	parties, err := documents.PartiesOf(n.Book, inv)
	if err != nil {
		return nil, err
	}
	settled, err := documents.SettledOf(at.InvoiceState)
	if err != nil {
		return nil, err
	}
	return documents.InvoicePDF(inv, settled, parties, language)
}
