package ledger

import (
	"fmt"

	"github.com/google/uuid"
)

// InvoiceJournal books an invoice. What usage earned is accrued exactly; the
// rounded lines move it to the org's receivable, and what rounding leaves is
// booked as such: accrued is zero again. Fees and true-ups are earned and owed at
// once; discount, credits and what is carried lower what is owed; tax is owed on.
// The journal is not sealed.
func InvoiceJournal(inv Invoice) (Journal, error) {
	j := newJournal(&inv)
	for i := range inv.Lines {
		if err := j.bookLine(&inv, &inv.Lines[i]); err != nil {
			return Journal{}, err
		}
	}
	for _, t := range inv.Taxes {
		if t.Inclusive {
			j.move(CodeIncludedTax, RevenueIncludedTax, TaxPayable(t.Name), t.Amount, inv.Currency, inv.CreatedAt)
		}
	}
	// The pair of the sum in Bill: what is owed is what the paper says.
	var balances Balances
	if err := balances.Apply(&j); err != nil {
		return Journal{}, err
	}
	if owed := balances.Balance(Receivable(inv.OrgID), inv.Currency); owed.Cmp(inv.Total) != 0 {
		return Journal{}, fmt.Errorf("%w: invoice %s says %s, its lines %s", ErrJournal, inv.Number, inv.Total, owed)
	}
	if accrued := balances.Balance(Accrued(inv.OrgID), inv.Currency); !accrued.IsZero() {
		return Journal{}, fmt.Errorf("%w: invoice %s leaves %s accrued", ErrJournal, inv.Number, accrued)
	}
	return j, j.Check()
}

func (j *Journal) bookLine(inv *Invoice, l *Line) error {
	receivable, accrued := Receivable(inv.OrgID), Accrued(inv.OrgID)
	move := func(code Code, debit, credit Account, amount Amount) {
		j.move(code, debit, credit, amount, inv.Currency, inv.CreatedAt)
	}
	switch l.Kind {
	case LineTax:
		move(CodeTax, receivable, TaxPayable(l.Name), l.Amount)
	case LineCredit:
		kind, found := inv.creditKind(l.GrantID)
		if !found {
			return fmt.Errorf("%w: invoice %s uses grant %s, which it does not list", ErrJournal, inv.Number, l.GrantID)
		}
		code, account := creditAccount(kind, inv.OrgID)
		move(code, account, receivable, l.Amount.Neg())
	case LineCarried:
		move(CodeCarried, receivable, Prepaid(inv.OrgID), l.Amount)
	case LineDiscount:
		move(CodeDiscount, Discounts, receivable, l.Amount.Neg())
	case LineFee, LineFeeCharged, LineFeeAdvance, LineCommitment:
		account, code := l.account()
		move(code, receivable, account, l.Amount)
	default: // usage
		rounding, err := l.Exact.Sub(l.Amount)
		if err != nil {
			return err
		}
		account, code := l.account()
		move(code, accrued, account, l.Exact)
		move(CodeInvoiced, receivable, accrued, l.Amount)
		move(CodeRounding, Rounding, accrued, rounding)
	}
	return nil
}

// creditKind is the kind of a grant that the invoice uses.
func (inv *Invoice) creditKind(grantID uuid.UUID) (GrantKind, bool) {
	for _, c := range inv.Credits {
		if c.Grant.ID == grantID {
			return c.Grant.Kind, true
		}
	}
	return "", false
}

// creditAccount is where a kind of grant is kept, and the code of its use.
func creditAccount(kind GrantKind, orgID uuid.UUID) (Code, Account) {
	if kind == GrantPromotional {
		return CodePromoCredit, Promo(orgID)
	}
	return CodeCredit, Prepaid(orgID)
}
