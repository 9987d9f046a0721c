package ledger

import (
	"strings"

	"github.com/google/uuid"
)

// Account names one account, "<kind>:<owner or purpose>".
type Account string

// Kinds of accounts. Those of an org carry its id, those of the house what they
// are for.
const (
	KindReceivable = "receivable" // org: what it owes
	KindAccrued    = "accrued"    // org: usage earned and not yet invoiced; zero after each invoice
	KindPrepaid    = "prepaid"    // org: its money that we hold
	KindPromo      = "promo"      // org: what it was given and has not used

	KindRevenue      = "revenue"       // house: earned, by what for
	KindDiscount     = "discount"      // house: revenue given up
	KindTax          = "tax"           // house: owed to the state, by tax
	KindCash         = "cash"          // house: at the bank
	KindRounding     = "rounding"      // house: what rounding of lines cost
	KindWriteOff     = "write_off"     // house: receivables given up
	KindPromoExpense = "promo_expense" // house: credits given away
	KindBreakage     = "breakage"      // house: credits that expired
)

// Accounts of the house.
const (
	RevenueUsage       Account = KindRevenue + ":usage"        // earned by metered usage
	RevenueFee         Account = KindRevenue + ":fee"          // earned by monthly fees
	RevenueCommitment  Account = KindRevenue + ":commitment"   // earned by usage below a commitment
	RevenueIncludedTax Account = KindRevenue + ":included_tax" // inclusive taxes, taken out of the other revenue
	Discounts          Account = KindDiscount + ":plan"
	Cash               Account = KindCash + ":bank"
	Rounding           Account = KindRounding + ":lines"
	WriteOffs          Account = KindWriteOff + ":receivables"
	PromoExpense       Account = KindPromoExpense + ":grants"
	Breakage           Account = KindBreakage + ":credits"
)

func orgAccount(kind string, orgID uuid.UUID) Account { return Account(kind + ":" + orgID.String()) }

// Receivable is what an org owes.
func Receivable(orgID uuid.UUID) Account { return orgAccount(KindReceivable, orgID) }

// Accrued is an org's usage that is earned and not yet invoiced.
func Accrued(orgID uuid.UUID) Account { return orgAccount(KindAccrued, orgID) }

// Prepaid is money of an org that is held for it: top-ups, overpayments, and
// what invoices below zero carried forward.
func Prepaid(orgID uuid.UUID) Account { return orgAccount(KindPrepaid, orgID) }

// Promo is what an org was given and has not used.
func Promo(orgID uuid.UUID) Account { return orgAccount(KindPromo, orgID) }

// TaxPayable is what is owed to the state for a tax.
func TaxPayable(name string) Account { return Account(KindTax + ":" + name) }

// Kind is the part of the name that decides which flows are allowed.
func (a Account) Kind() string {
	kind, _, _ := strings.Cut(string(a), ":")
	return kind
}

// Code says what a transfer is for.
type Code string

const (
	CodeUsage       Code = "usage"        // usage of the invoice's own period is earned, exact
	CodeLateUsage   Code = "late_usage"   // the same for usage of a period closed before it arrived
	CodeInvoiced    Code = "invoiced"     // accrued usage is invoiced, rounded
	CodeRounding    Code = "rounding"     // what is left of accrued usage after rounding
	CodeFee         Code = "fee"          // monthly fee
	CodeCommitment  Code = "commitment"   // true-up to a commitment
	CodeDiscount    Code = "discount"     // discount of a plan
	CodeTax         Code = "tax"          // tax on top
	CodeIncludedTax Code = "included_tax" // tax inside the prices
	CodeCredit      Code = "credit"       // prepaid money pays an invoice
	CodePromoCredit Code = "promo_credit" // a promotional credit pays an invoice
	CodeCarried     Code = "carried"      // an invoice below zero becomes prepaid money; so does what a credit note returns
	CodePayment     Code = "payment"      // money comes in for an invoice
	CodeTopUp       Code = "top_up"       // money comes in for no invoice
	CodeGrant       Code = "grant"        // a promotional credit is given
	CodeRefund      Code = "refund"       // prepaid money goes back
	CodeExpiry      Code = "expiry"       // prepaid money expires
	CodePromoExpiry Code = "promo_expiry" // a promotional credit expires
	CodeWriteOff    Code = "write_off"    // a receivable is given up
)

// flows are the allowed ways of money, from the credited to the debited kind of
// account. A balanced journal can still be wrong; a transfer that is on no line
// here is. A reversal goes the other way.
var flows = map[Code]struct{ debit, credit string }{
	CodeUsage:       {KindAccrued, KindRevenue},
	CodeLateUsage:   {KindAccrued, KindRevenue},
	CodeInvoiced:    {KindReceivable, KindAccrued},
	CodeRounding:    {KindRounding, KindAccrued},
	CodeFee:         {KindReceivable, KindRevenue},
	CodeCommitment:  {KindReceivable, KindRevenue},
	CodeDiscount:    {KindDiscount, KindReceivable},
	CodeTax:         {KindReceivable, KindTax},
	CodeIncludedTax: {KindRevenue, KindTax},
	CodeCredit:      {KindPrepaid, KindReceivable},
	CodePromoCredit: {KindPromo, KindReceivable},
	CodeCarried:     {KindReceivable, KindPrepaid},
	CodePayment:     {KindCash, KindReceivable},
	CodeTopUp:       {KindCash, KindPrepaid},
	CodeGrant:       {KindPromoExpense, KindPromo},
	CodeRefund:      {KindPrepaid, KindCash},
	CodeExpiry:      {KindPrepaid, KindBreakage},
	CodePromoExpiry: {KindPromo, KindBreakage},
	CodeWriteOff:    {KindWriteOff, KindReceivable},
}
