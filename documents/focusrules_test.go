package documents

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// The rules of FOCUS 1.2 for the columns that this provider has to give: no
// regions, resources, capacity reservations, commitment discounts, tags, several
// types of accounts or several currencies. They are written from the requirements
// of the specification's column pages, not from the export.

type focusType int

const (
	focusText focusType = iota
	focusDecimal
	focusDateTime
	focusJSON
	focusCurrencyCode
)

type focusRule struct {
	name     string
	kind     focusType
	nullable bool
	allowed  []string
	unsigned bool // a non-negative decimal
}

var focusRules = []focusRule{
	{name: "BilledCost", kind: focusDecimal},
	{name: "BillingAccountId"},
	{name: "BillingAccountName"},
	{name: "BillingCurrency", kind: focusCurrencyCode},
	{name: "BillingPeriodEnd", kind: focusDateTime},
	{name: "BillingPeriodStart", kind: focusDateTime},
	{name: "ChargeCategory", allowed: []string{"Usage", "Purchase", "Tax", "Credit", "Adjustment"}},
	{name: "ChargeClass", nullable: true, allowed: []string{"Correction"}},
	{name: "ChargeDescription"}, // SHOULD NOT be null: we never leave it out
	{name: "ChargeFrequency", allowed: []string{"One-Time", "Recurring", "Usage-Based"}},
	{name: "ChargePeriodEnd", kind: focusDateTime},
	{name: "ChargePeriodStart", kind: focusDateTime},
	{name: "ConsumedQuantity", kind: focusDecimal, nullable: true},
	{name: "ConsumedUnit", nullable: true},
	{name: "ContractedCost", kind: focusDecimal},
	{name: "ContractedUnitPrice", kind: focusDecimal, nullable: true, unsigned: true},
	{name: "EffectiveCost", kind: focusDecimal},
	{name: "InvoiceId", nullable: true},
	{name: "InvoiceIssuerName"},
	{name: "ListCost", kind: focusDecimal},
	{name: "ListUnitPrice", kind: focusDecimal, nullable: true, unsigned: true},
	{name: "PricingCategory", nullable: true, allowed: []string{"Standard", "Dynamic", "Committed", "Other"}},
	{name: "PricingQuantity", kind: focusDecimal, nullable: true},
	{name: "PricingUnit", nullable: true},
	{name: "ProviderName"},
	{name: "PublisherName"},
	{name: "ServiceCategory", allowed: []string{
		"AI and Machine Learning", "Analytics", "Business Applications", "Compute", "Databases", "Developer Tools", "Multicloud", "Identity",
		"Integration", "Internet of Things", "Management and Governance", "Media", "Migration", "Mobile", "Networking", "Security", "Storage", "Web", "Other",
	}},
	{name: "ServiceName"},
	{name: "ServiceSubcategory", allowed: []string{ // of AI and Machine Learning
		"AI Platforms", "Bots", "Generative AI", "Machine Learning", "Natural Language Processing", "Other (AI and Machine Learning)",
	}},
	{name: "SkuId", nullable: true},
	{name: "SkuMeter", nullable: true},
	{name: "SkuPriceDetails", kind: focusJSON, nullable: true},
	{name: "SkuPriceId", nullable: true},
	{name: "SubAccountId", nullable: true},
	{name: "SubAccountName", nullable: true},
}

var (
	focusNumber   = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?(E-?[0-9]+)?$`)
	focusUnitName = regexp.MustCompile(`^([0-9]+ )?[A-Z][A-Za-z]*s$`)
	focusColumn   = regexp.MustCompile(`^(x_)?([A-Z][a-z0-9]+)+$`)
)

// focusProblems are the rules that a dataset breaks, each with its row.
func focusProblems(columns []string, rows []map[string]string) []string {
	var out []string
	custom := false
	for _, c := range columns {
		if !focusColumn.MatchString(c) {
			out = append(out, "column "+c+" is not in Pascal case")
		}
		isCustom := strings.HasPrefix(c, "x_")
		if custom && !isCustom {
			out = append(out, "column "+c+" stands behind custom ones")
		}
		custom = custom || isCustom
		if !isCustom && !slices.ContainsFunc(focusRules, func(r focusRule) bool { return r.name == c }) {
			out = append(out, "column "+c+" is not of FOCUS and has no x_")
		}
	}
	for _, rule := range focusRules {
		if !slices.Contains(columns, rule.name) {
			out = append(out, "column "+rule.name+" is missing")
		}
	}
	prices := make(map[string]string) // SkuPriceId to SkuId
	details := make(map[string]string)
	for n, row := range rows {
		bad := func(format string, args ...any) {
			out = append(out, fmt.Sprintf("row %d: ", n+1)+fmt.Sprintf(format, args...))
		}
		for _, rule := range focusRules {
			rule.check(row[rule.name], bad)
		}
		focusNulls(row, bad)
		focusCosts(row, bad)
		if id := row["SkuPriceId"]; id != "" {
			if sku, seen := prices[id]; seen && sku != row["SkuId"] {
				bad("SkuPriceId %s has two SkuIds", id)
			}
			if d, seen := details[id]; seen && d != row["SkuPriceDetails"] {
				bad("SkuPriceId %s has two SkuPriceDetails", id)
			}
			prices[id], details[id] = row["SkuId"], row["SkuPriceDetails"]
		}
	}
	return out
}

func (rule focusRule) check(cell string, bad func(string, ...any)) {
	if cell == "" {
		if !rule.nullable {
			bad("%s is null", rule.name)
		}
		return
	}
	if rule.allowed != nil && !slices.Contains(rule.allowed, cell) {
		bad("%s may not be %q", rule.name, cell)
	}
	switch rule.kind {
	case focusText:
		if strings.TrimSpace(cell) == "" {
			bad("%s is only spaces", rule.name)
		}
	case focusDecimal:
		if !focusNumber.MatchString(cell) || rule.unsigned && cell[0] == '-' {
			bad("%s is no number: %q", rule.name, cell)
		}
	case focusDateTime:
		if t, err := time.Parse("2006-01-02T15:04:05Z", cell); err != nil || t.Format("2006-01-02T15:04:05Z") != cell {
			bad("%s is no instant in UTC: %q", rule.name, cell)
		}
	case focusCurrencyCode:
		if len(cell) != 3 || strings.ToUpper(cell) != cell {
			bad("%s is no ISO 4217 code: %q", rule.name, cell)
		}
	case focusJSON:
		var object map[string]any
		if err := json.Unmarshal([]byte(cell), &object); err != nil {
			bad("%s is no JSON object: %q", rule.name, cell)
		}
		for key, value := range object {
			switch value.(type) {
			case map[string]any, []any:
				bad("%s has a value that is no scalar", rule.name)
			}
			if !strings.HasPrefix(key, "x_") { // none of the properties of FOCUS apply to tokens
				bad("%s has the property %q, which FOCUS does not define", rule.name, key)
			}
		}
	}
}

// focusNulls are the rules of what must be null and what must not.
func focusNulls(row map[string]string, bad func(string, ...any)) {
	is := func(column string, values ...string) bool { return slices.Contains(values, row[column]) }
	null := func(column string) bool { return row[column] == "" }
	correction := is("ChargeClass", "Correction")
	sold := is("ChargeCategory", "Usage", "Purchase") && !correction
	for _, column := range []string{"ContractedUnitPrice", "ListUnitPrice", "PricingCategory", "PricingQuantity", "SkuId", "SkuPriceId"} {
		if is("ChargeCategory", "Tax") && !null(column) {
			bad("%s of a tax is not null", column)
		}
		if sold && null(column) {
			bad("%s of a %s is null", column, row["ChargeCategory"])
		}
	}
	for column, of := range map[string]string{
		"ConsumedUnit": "ConsumedQuantity", "PricingUnit": "PricingQuantity", "SubAccountName": "SubAccountId", "SkuMeter": "SkuId",
	} {
		if null(column) != null(of) {
			bad("%s is null, or %s, and not the other", column, of)
		}
	}
	switch {
	case !is("ChargeCategory", "Usage") && !null("ConsumedQuantity"):
		bad("ConsumedQuantity of a %s is not null", row["ChargeCategory"])
	case is("ChargeCategory", "Usage") && !correction && null("ConsumedQuantity"):
		bad("ConsumedQuantity of usage is null")
	}
	if null("SkuPriceId") && !null("SkuPriceDetails") {
		bad("SkuPriceDetails without a SkuPriceId")
	}
	if is("ChargeCategory", "Purchase") && is("ChargeFrequency", "Usage-Based") {
		bad("a purchase is not usage-based")
	}
	for _, column := range []string{"ConsumedUnit", "PricingUnit"} {
		if !null(column) && !focusUnitName.MatchString(row[column]) {
			bad("%s is no unit: %q", column, row[column])
		}
	}
	for _, period := range []string{"BillingPeriod", "ChargePeriod"} {
		if row[period+"Start"] >= row[period+"End"] {
			bad("%s ends before it starts", period)
		}
	}
}

// focusCosts are the rules between costs, prices and quantities.
func focusCosts(row map[string]string, bad func(string, ...any)) {
	number := func(column string) decimal.Decimal {
		d, err := decimal.NewFromString(row[column])
		if err != nil {
			return decimal.Decimal{}
		}
		return d
	}
	for _, side := range []string{"Contracted", "List"} {
		priced := row[side+"UnitPrice"] != "" && row["PricingQuantity"] != ""
		if priced && row["ChargeClass"] != "Correction" && !number(side+"UnitPrice").Mul(number("PricingQuantity")).Equal(number(side+"Cost")) {
			bad("%sUnitPrice × PricingQuantity is not %sCost", side, side)
		}
		if row[side+"UnitPrice"] == "" && row["ChargeCategory"] != "Tax" && !number(side+"Cost").Equal(number("BilledCost")) {
			bad("%sCost of a charge without a price is not its BilledCost", side)
		}
	}
	if row["ChargeCategory"] == "Credit" || row["ChargeCategory"] == "Adjustment" {
		if !number("EffectiveCost").Equal(number("BilledCost")) {
			bad("EffectiveCost of a %s is not its BilledCost", row["ChargeCategory"])
		}
	}
}
