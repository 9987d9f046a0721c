package httpapi

import (
	"context"
	"time"

	"aione/billing"
	"aione/ledger"

	"github.com/google/uuid"
)

type creditRequest struct {
	Kind      string     `json:"kind" enum:"prepaid,promotional" doc:"prepaid: the organisation paid it in; promotional: it is given."`
	Amount    price      `json:"amount" format:"price"`
	ExpiresAt *time.Time `json:"expires_at,omitempty" nullable:"true" doc:"Default: never."`
	Priority  int        `json:"priority,omitempty" minimum:"0" maximum:"1000" doc:"Lower goes first among credits that expire together." default:"0"`
	Source    string     `json:"source,omitempty" maxLength:"120" doc:"What people know it by: the bank's reference, the campaign."`
	Reason    string     `json:"reason,omitempty" maxLength:"500" doc:"Why, for the audit trail."`
}

// addCredit serves POST /admin/v1/orgs/{org_id}/credits.
func (s *Server) addCredit(ctx context.Context, org billing.Org, o *order[creditRequest]) (none billing.Outcome[ledger.Grant], err error) {
	req := &o.req
	amount, err := minorUnits(req.Amount, org.Currency)
	if err != nil {
		return none, err
	}
	var expires time.Time
	if req.ExpiresAt != nil {
		if expires = req.ExpiresAt.UTC(); !expires.After(o.by.At) {
			return none, invalid("datetime_range", "the credit would have expired already", "body", "expires_at")
		}
	}
	if req.Kind == string(ledger.GrantPrepaid) {
		return s.config.Finance.TopUp(ctx, org.ID, billing.TopUp{Amount: amount, ExpiresAt: expires, Priority: req.Priority, Reference: req.Source}, o.by)
	}
	return s.config.Finance.GrantCredit(ctx, org.ID, billing.Promotion{Amount: amount, ExpiresAt: expires, Priority: req.Priority, Source: req.Source}, o.by)
}

// grantedCredit is a credit as it was given; what is left of it says the list.
type grantedCredit struct {
	ID        uuid.UUID `json:"id"`
	Kind      string    `json:"kind" enum:"prepaid,promotional"`
	Amount    string    `json:"amount" format:"decimal"`
	Currency  string    `json:"currency"`
	GrantedAt string    `json:"granted_at" format:"date-time"`
	ExpiresAt *string   `json:"expires_at" format:"date-time"`
	Priority  int       `json:"priority"`
	Source    string    `json:"source"`
}

func newGrantedCredit(org billing.Org, g *ledger.Grant) (grantedCredit, error) {
	return grantedCredit{
		ID: g.ID, Kind: string(g.Kind), Amount: g.Amount.Format(org.Currency), Currency: org.Currency,
		GrantedAt: instant(g.GrantedAt), ExpiresAt: instantOrNull(g.ExpiresAt), Priority: g.Priority, Source: g.Source,
	}, nil
}

// minorUnits reads a positive amount of the body in whole minor units of a currency.
func minorUnits(p price, currency string) (ledger.Amount, error) {
	a, err := money(p, "amount")
	if err != nil {
		return a, err
	}
	rounded, err := ledger.RoundHalfEvenToMinor(a, currency)
	if err != nil {
		return a, err
	}
	if a.Sign() <= 0 || rounded.Cmp(a) != 0 {
		return a, invalid("value_error", "the amount must be more than nothing, in whole minor units of "+currency, "body", "amount")
	}
	return a, nil
}

type paymentRequest struct {
	Amount     price       `json:"amount" format:"price"`
	ReceivedAt *time.Time  `json:"received_at,omitempty" nullable:"true" doc:"When it came in, not in the future. Default: now."`
	Reference  string      `json:"reference,omitempty" maxLength:"120" doc:"What the bank knows it by."`
	InvoiceIDs []uuid.UUID `json:"invoice_ids,omitempty" maxItems:"100" doc:"What it is for, in this order. Default: the oldest due first."`
	Reason     string      `json:"reason,omitempty" maxLength:"500" doc:"Why, for the audit trail."`
}

// addPayment serves POST /admin/v1/orgs/{org_id}/payments.
func (s *Server) addPayment(ctx context.Context, org billing.Org, o *order[paymentRequest]) (none billing.Outcome[ledger.Payment], err error) {
	payment := billing.Payment{Reference: o.req.Reference, For: o.req.InvoiceIDs}
	if payment.Amount, err = minorUnits(o.req.Amount, org.Currency); err != nil {
		return none, err
	}
	if o.req.ReceivedAt != nil {
		if payment.At = o.req.ReceivedAt.UTC(); payment.At.After(o.by.At) {
			return none, invalid("datetime_range", "the moment has not come yet", "body", "received_at")
		}
	}
	return s.config.Finance.Pay(ctx, org.ID, payment, o.by)
}

func newPaid(org billing.Org, p *ledger.Payment) (paymentItem, error) {
	return newPaymentItem(*p, org.Currency), nil
}

type refundRequest struct {
	Amount    price  `json:"amount" format:"price" doc:"Of the prepaid balance."`
	Reference string `json:"reference,omitempty" maxLength:"120" doc:"What the bank knows it by."`
	Reason    string `json:"reason" minLength:"1" maxLength:"500" doc:"Why, for the audit trail."`
}

type refundItem struct {
	ID         uuid.UUID `json:"id"`
	Amount     string    `json:"amount" format:"decimal"`
	Currency   string    `json:"currency"`
	RefundedAt string    `json:"refunded_at" format:"date-time"`
	Reference  string    `json:"reference"`
	Reason     string    `json:"reason"`
}

// addRefund serves POST /admin/v1/orgs/{org_id}/refunds.
func (s *Server) addRefund(ctx context.Context, org billing.Org, o *order[refundRequest]) (none billing.Outcome[ledger.Refund], err error) {
	amount, err := minorUnits(o.req.Amount, org.Currency)
	if err != nil {
		return none, err
	}
	return s.config.Finance.Refund(ctx, org.ID, billing.Refund{Amount: amount, Reference: o.req.Reference}, o.by)
}

func newRefundItem(org billing.Org, f *ledger.Refund) (refundItem, error) {
	return refundItem{ID: f.ID, Amount: f.Amount.Format(org.Currency), Currency: org.Currency, RefundedAt: instant(f.At),
		Reference: f.Reference, Reason: f.Reason}, nil
}
