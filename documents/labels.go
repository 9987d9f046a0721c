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

var (
	labelInvoice    = label{"账单", "Invoice"}
	labelNumber     = label{"账单编号", "Invoice no."}
	labelIssuedOn   = label{"开具日期", "Date of issue"}
	labelDueDate    = label{"到期日", "Due date"}
	labelPeriod     = label{"计费周期", "Billing period"}
	labelCurrency   = label{"币种", "Currency"}
	labelReference  = label{"付款备注", "Payment reference"}
	labelBillTo     = label{"客户", "Bill to"}
	labelTaxID      = label{"税号", "Tax ID"}
	labelEmail      = label{"邮箱", "E-mail"}
	labelPhone      = label{"电话", "Phone"}
	labelAmountDue  = label{"应付金额", "Amount due"}
	labelContinued  = label{"续", "continued"}
	labelNoNumber   = label{"未编号", "not numbered"}
	labelNoLines    = label{"本周期没有费用", "Nothing was used in this period"}
	labelPayment    = label{"付款信息", "Payment details"}
	labelHolder     = label{"户名", "Account name"}
	labelBank       = label{"开户行", "Bank"}
	labelAccount    = label{"账号", "Account no."}
	labelSWIFT      = label{"SWIFT", "SWIFT"}
	labelNote       = label{"备注", "Note"}
	labelInputHash  = label{"输入哈希", "Input hash"}
	labelInvoiceID  = label{"账单标识", "Invoice ID"}
	labelItem       = label{"项目", "Description"}
	labelPriceFrom  = label{"价格版本", "Price"}
	labelQuantity   = label{"数量", "Quantity"}
	labelUnitPrice  = label{"单价", "Unit price"}
	labelAmount     = label{"金额", "Amount"}
	labelSubtotal   = label{"小计", "Subtotal"}
	labelLateUsage  = label{"以往周期调整", "Adjustments of earlier periods"}
	labelTotal      = label{"合计", "Total"}
	labelUsageGroup = label{"本期用量", "Usage of the period"}
)

// lateGroup heads the lines of usage that an earlier invoice could not count.
func lateGroup(origin string) label {
	return label{"迟到用量，发生于 " + origin, "Late usage, which occurred in " + origin}
}

func pageOf(n, pages int) label {
	return label{fmt.Sprintf("第 %d / %d 页", n, pages), fmt.Sprintf("Page %d / %d", n, pages)}
}

// proof says how an invoice can be recomputed.
func proof(cut uint64) label {
	return label{
		fmt.Sprintf("本账单可逐字节重新计算，用量统计至事件序列 %d。", cut),
		fmt.Sprintf("This invoice can be recomputed byte for byte; usage is counted up to event sequence %d.", cut),
	}
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
