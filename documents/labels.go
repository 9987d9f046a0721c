package documents

import (
	"fmt"

	"aione/ledger"
)

// Language is what the labels of a PDF are written in. Names and addresses are
// written as they are.
type Language string

const (
	Chinese   Language = "zh"
	English   Language = "en"
	Bilingual Language = "zh-en" // both beside each other, for a Chinese issuer of foreign invoices
)

// check returns an error unless the language is one that there is.
func (l Language) check() error {
	switch l {
	case Chinese, English, Bilingual:
		return nil
	}
	return fmt.Errorf("language %.20q is not zh, en or zh-en", string(l))
}

// tag is the language of the document for readers (BCP 47).
func (l Language) tag() string {
	if l == English {
		return "en"
	}
	return "zh-CN"
}

// label is one text in both languages. scripts/invoice-font.sh reads this file:
// the bold font has the characters written here.
type label struct{ zh, en string }

func (l Language) of(text label) string {
	switch {
	case l == English || text.zh == "":
		return text.en
	case l == Chinese || text.zh == text.en:
		return text.zh
	}
	return text.zh + " " + text.en
}

// short is of, but only one language where both would not fit.
func (l Language) short(text label) string {
	if l == Chinese {
		return text.zh
	}
	return text.en
}

// with is a label and what it is about, "label: name".
func (l Language) with(text label, name string) string {
	if name == "" {
		return l.of(text)
	}
	return l.of(text) + ": " + name
}

// Parts of every document.
var (
	labelNumber    = label{"账单编号", "Invoice no."}
	labelIssuedOn  = label{"开具日期", "Date of issue"}
	labelCurrency  = label{"币种", "Currency"}
	labelBillTo    = label{"客户", "Bill to"}
	labelTaxID     = label{"税号", "Tax ID"}
	labelEmail     = label{"邮箱", "E-mail"}
	labelPhone     = label{"电话", "Phone"}
	labelContinued = label{"续", "continued"}
	labelNoNumber  = label{"未编号", "not numbered"}
	labelReason    = label{"原因", "Reason"}
	labelNote      = label{"备注", "Note"}

	labelItem      = label{"项目", "Description"}
	labelPriceFrom = label{"价格版本", "Price"}
	labelQuantity  = label{"数量", "Quantity"}
	labelUnitPrice = label{"单价", "Unit price"}
	labelAmount    = label{"金额", "Amount"}
	labelSubtotal  = label{"小计", "Subtotal"}
)

// Parts of an invoice.
var (
	labelInvoice     = label{"账单", "Invoice"}
	labelDueDate     = label{"到期日", "Due date"}
	labelPeriod      = label{"计费周期", "Billing period"}
	labelReference   = label{"付款备注", "Payment reference"}
	labelReplaces    = label{"替代账单", "Replaces"}
	labelAmountDue   = label{"应付金额", "Amount due"}
	labelNoLines     = label{"本周期没有费用", "Nothing was used in this period"}
	labelUsageGroup  = label{"本期用量", "Usage of the period"}
	labelFeeGroup    = label{"套餐费用", "Plan fees"}
	labelLateGroup   = label{"以往周期用量", "Late usage of period"}
	labelLateEarlier = label{"更早周期的用量", "Late usage of earlier periods"}
	labelLateUsage   = label{"以往周期调整", "Adjustments of earlier periods"}
	labelDiscount    = label{"折扣", "Discount"}
	labelTier        = label{"档", "tier"}
	labelFlatFee     = label{"固定费", "flat fee"}
	labelDays        = label{"天", "days"}
	labelTaxOn       = label{"计税基数", "on"}
	labelTaxInside   = label{"已含于", "included in"}
	labelCredit      = label{"抵扣额度", "Credit applied"}
	labelCarried     = label{"结转至预付余额", "Carried to prepaid balance"}
	labelTotal       = label{"合计", "Total"}
	labelPaidPart    = label{"已付金额", "Amount paid"}
	labelWrittenOff  = label{"已核销", "Written off"}
	labelPayment     = label{"付款信息", "Payment details"}
	labelHolder      = label{"户名", "Account name"}
	labelBank        = label{"开户行", "Bank"}
	labelAccount     = label{"账号", "Account no."}
	labelSWIFT       = label{"SWIFT", "SWIFT"}
	labelInputHash   = label{"输入哈希", "Input hash"}
	labelInvoiceID   = label{"账单标识", "Invoice ID"}
)

// Parts of a credit note.
var (
	labelCreditNote    = label{"贷项通知单", "Credit note"}
	labelNoteNumber    = label{"贷项编号", "Credit note no."}
	labelOfInvoice     = label{"对应账单", "For invoice"}
	labelCredited      = label{"贷记金额", "Amount credited"}
	labelCreditedLines = label{"贷记项目", "Credited lines"}
	labelFullCredit    = label{"全额作废", "Voids the invoice"}
	labelPartCredit    = label{"部分贷记", "Partial credit"}
	labelSettlement    = label{"结算方式", "How it is settled"}
	labelOffDue        = label{"冲减应付金额", "Off the amount due"}
	labelToPrepaid     = label{"转入预付余额", "To prepaid balance"}
	labelRestored      = label{"恢复抵扣额度", "Back to credits"}
	labelTakenBack     = label{"收回已结转余额", "Off prepaid balance"}
	labelNoteID        = label{"贷项标识", "Credit note ID"}
)

func pageOf(n, pages int) label {
	return label{fmt.Sprintf("第 %d / %d 页", n, pages), fmt.Sprintf("Page %d / %d", n, pages)}
}

// proof says how an invoice can be recomputed.
func proof(cut uint64) label {
	return label{
		fmt.Sprintf("本账单可逐字节重新计算，用量统计至事件序列 %d。", cut),
		fmt.Sprintf("It can be recomputed byte for byte; usage is counted up to event sequence %d.", cut),
	}
}

var lineKindLabels = map[ledger.LineKind]label{
	ledger.LineUsage:      {"用量", "usage"},
	ledger.LineTier:       {"阶梯", "tiered"},
	ledger.LineIncluded:   {"套餐内含", "included"},
	ledger.LineCommitment: {"承诺消费补足", "commitment true-up"},
	ledger.LineFee:        {"月费", "monthly fee"},
	ledger.LineFeeCharged: {"上期已预收的月费", "monthly fee charged in advance"},
	ledger.LineFeeAdvance: {"下期月费", "monthly fee of the next period"},
	ledger.LineAdjustment: {"按当期条款调整", "adjustment by the terms of that period"},
	ledger.LineDiscount:   {"折扣", "discount"},
	ledger.LineTax:        {"税费", "tax"},
	ledger.LineCredit:     {"抵扣额度", "credit"},
	ledger.LineCarried:    {"结转", "carried"},
}

var statusLabels = map[ledger.Status]label{
	ledger.StatusDraft:   {"草稿", "Draft"},
	ledger.StatusIssued:  {"已开具", "Issued"},
	ledger.StatusPaid:    {"已付清", "Paid"},
	ledger.StatusOverdue: {"已逾期", "Overdue"},
	ledger.StatusVoid:    {"已作废", "Void"},
}

var bucketLabels = map[ledger.Bucket]label{
	ledger.BucketInput:        {"输入", "input"},
	ledger.BucketCacheRead:    {"缓存读取", "cache read"},
	ledger.BucketCacheWrite5m: {"缓存写入（5 分钟）", "cache write (5 min)"},
	ledger.BucketCacheWrite1h: {"缓存写入（1 小时）", "cache write (1 h)"},
	ledger.BucketOutput:       {"输出", "output"},
	ledger.BucketReasoning:    {"推理", "reasoning"},
	ledger.BucketImages:       {"图片", "images"},
	ledger.BucketRequests:     {"请求", "requests"},
}

// unitLabels say what a unit price is for.
var unitLabels = map[ledger.Unit]label{
	ledger.UnitTokens:   {"百万 tokens", "1M tokens"},
	ledger.UnitImages:   {"张", "image"},
	ledger.UnitRequests: {"次", "request"},
}

// lineKind, bucketLabel and unitLabel give what they have no label for by its
// own name.
func lineKind(k ledger.LineKind) label  { return labelOr(lineKindLabels, k) }
func bucketLabel(b ledger.Bucket) label { return labelOr(bucketLabels, b) }
func unitLabel(u ledger.Unit) label     { return labelOr(unitLabels, u) }
func statusLabel(s ledger.Status) label { return labelOr(statusLabels, s) }

func labelOr[K ~string](labels map[K]label, key K) label {
	if l, ok := labels[key]; ok {
		return l
	}
	return label{string(key), string(key)}
}
