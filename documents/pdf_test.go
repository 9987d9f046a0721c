package documents

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf16"

	"github.com/ledongthuc/pdf"
	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"aione/ledger"
)

// page is what a reader finds on a page.
type page struct {
	texts []string  // as they were written, each with one operator
	xs    []float64 // where each begins, in points from the left
	box   string
}

func (p page) has(text string) bool {
	return strings.Contains(strings.Join(p.texts, "\n"), text)
}

// readPDF reads the pages with a reader that shares nothing with the writer. It
// decodes texts itself, by the font's ToUnicode map, which it checks to be the
// identity: the reader only knows maps of 256 codes.
func readPDF(t rapid.TB, b []byte) []page {
	t.Helper()
	r, err := pdf.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatalf("not a PDF: %v", err)
	}
	pages := make([]page, r.NumPage())
	for i := range pages {
		p := r.Page(i + 1)
		for _, name := range p.Fonts() {
			checkFont(t, p.Font(name))
		}
		pages[i].box = p.V.Key("Parent").Key("MediaBox").String()
		pdf.Interpret(p.V.Key("Contents"), func(stack *pdf.Stack, op string) {
			args := make([]pdf.Value, stack.Len())
			for j := range args {
				args[len(args)-1-j] = stack.Pop()
			}
			if op == "Td" {
				x, y := args[0].Float64(), args[1].Float64()
				pages[i].xs = append(pages[i].xs, x)
				if y < 20 || y > 820 {
					t.Errorf("page %d: a text is outside the page, at %.0f, %.0f points", i+1, x, y)
				}
			}
			if op == "Tj" {
				pages[i].texts = append(pages[i].texts, utf16Text(args[0].RawString()))
			}
		})
	}
	return pages
}

func checkFont(t rapid.TB, f pdf.Font) {
	t.Helper()
	m, err := io.ReadAll(f.V.Key("ToUnicode").Reader())
	if err != nil || !strings.Contains(string(m), "<0000> <FFFF> <0000>") || f.V.Key("Encoding").Name() != "Identity-H" {
		t.Errorf("font %s: text cannot be read back: %v", f.BaseFont(), err)
	}
	file := f.V.Key("DescendantFonts").Index(0).Key("FontDescriptor").Key("FontFile2")
	if ttf, err := io.ReadAll(file.Reader()); err != nil || len(ttf) == 0 || len(ttf) > 400_000 {
		t.Errorf("font %s is not embedded as a subset: %d bytes, %v", f.BaseFont(), len(ttf), err)
	}
}

func utf16Text(s string) string {
	units := make([]uint16, len(s)/2)
	for i := range units {
		units[i] = binary.BigEndian.Uint16([]byte(s[2*i:]))
	}
	return string(utf16.Decode(units))
}

func renderPDF(t rapid.TB, inv ledger.Invoice, parties Parties, language Language) ([]byte, []page) {
	t.Helper()
	b, err := InvoicePDF(inv, Settled{}, parties, language)
	if err != nil {
		t.Fatal(err)
	}
	return b, readPDF(t, b)
}

func TestPDFSaysWhatTheInvoiceSays(t *testing.T) {
	inv, parties := exampleInvoice(t), exampleParties()
	for language, labels := range map[Language][]string{
		Chinese:   {"账单", "应付金额", "输入", "以往周期调整", "第 1 / 1 页"},
		English:   {"Invoice", "Amount due", "gpt-4o · input", "Adjustments of earlier periods", "Page 1 / 1"},
		Bilingual: {"账单 Invoice", "应付金额 Amount due", "gpt-4o · 输入 input", "第 1 / 1 页 Page 1 / 1"},
	} {
		_, pages := renderPDF(t, inv, parties, language)
		if len(pages) != 1 || pages[0].box != "[0 0 595.28 841.89]" {
			t.Errorf("%s: %d pages of %s, want one of A4", language, len(pages), pages[0].box)
		}
		for _, want := range append(labels,
			parties.Issuer.Name, parties.Issuer.TaxID, parties.Issuer.Bank.AccountNumber, parties.Issuer.Bank.BankName,
			parties.BillTo.Name, parties.BillTo.Address[1], parties.BillTo.Email,
			inv.Number, inv.DueDate.String(), inv.CreatedOn.String(), "2023-11-01 – 2023-11-30", "CNY 2,222,259.33",
			"123,456,789,012", "2,222,222.20", "gpt-4o@1", "18.56", inv.InputHash.String(), inv.ID.String(), "1000",
		) {
			if !pages[0].has(want) {
				t.Errorf("%s: %q is not on the page", language, want)
			}
		}
	}
}

func TestPDFIsTheSameBytesAgain(t *testing.T) {
	inv, parties := exampleInvoice(t), exampleParties()
	first, _ := renderPDF(t, inv, parties, Bilingual)
	for range 5 {
		if again, _ := renderPDF(t, inv, parties, Bilingual); !bytes.Equal(first, again) {
			t.Fatal("the same invoice gave other bytes")
		}
	}
	r, err := pdf.NewReader(bytes.NewReader(first), int64(len(first)))
	if err != nil {
		t.Fatal(err)
	}
	info := r.Trailer().Key("Info")
	for _, key := range []string{"CreationDate", "ModDate"} {
		if got := info.Key(key).Text(); got != "D:20231201010000" { // of the invoice, not of the clock
			t.Errorf("%s = %s", key, got)
		}
	}
	inv.Status = ledger.StatusPaid
	if paid, _ := renderPDF(t, inv, parties, Bilingual); bytes.Equal(first, paid) {
		t.Error("an invoice that was paid looks like one that was not")
	}
}

// All documents share the fonts, which nobody may write to.
func TestPDFsAtOnce(t *testing.T) {
	inv, parties := exampleInvoice(t), exampleParties()
	want, _ := renderPDF(t, inv, parties, Bilingual)
	fonts := [][32]byte{sha256.Sum256(regularTTF), sha256.Sum256(boldTTF), sha256.Sum256(europeanTTF)}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if got, err := InvoicePDF(inv, Settled{}, parties, Bilingual); err != nil || !bytes.Equal(got, want) {
				t.Errorf("another document at the same time: %v", err)
			}
		})
	}
	group.Wait()
	if again := [][32]byte{sha256.Sum256(regularTTF), sha256.Sum256(boldTTF), sha256.Sum256(europeanTTF)}; !slices.Equal(again, fonts) {
		t.Error("a font was written to")
	}
}

func TestPDFSaysWhereTheInvoiceStands(t *testing.T) {
	for status, want := range map[ledger.Status]struct {
		text  string
		times int // with the watermark
	}{
		ledger.StatusDraft: {"草稿 Draft", 2}, ledger.StatusVoid: {"已作废 Void", 2}, ledger.StatusPaid: {"已付清 Paid", 1},
		ledger.StatusIssued: {"已开具 Issued", 1}, ledger.StatusOverdue: {"已逾期 Overdue", 1},
	} {
		inv := exampleInvoice(t)
		inv.Status = status
		_, pages := renderPDF(t, inv, exampleParties(), Bilingual)
		if n := strings.Count(strings.Join(pages[0].texts, "\n"), want.text); n != want.times {
			t.Errorf("%s: %q is %d times on the page, want %d", status, want.text, n, want.times)
		}
	}
}

// longInvoice has n lines of one cent.
func longInvoice(t rapid.TB, n int) ledger.Invoice {
	inv := exampleInvoice(t)
	cent := amount("0.01")
	var lines []ledger.Line
	for i := range n {
		lines = append(lines, ledger.Line{
			Kind:  ledger.LineUsage,
			Model: fmt.Sprintf("model-%03d", i+1), Bucket: ledger.BucketInput, PriceVersion: fmt.Sprintf("model-%03d@1", i+1),
			Quantity: 1000, Unit: ledger.UnitTokens, UnitPrice: decimal.NewFromInt(10), Exact: cent, Amount: cent,
		})
	}
	return compose(inv, lines)
}

func TestPDFBreaksPages(t *testing.T) {
	_, pages := renderPDF(t, longInvoice(t, 400), exampleParties(), Bilingual)
	if len(pages) < 8 || len(pages) > 14 {
		t.Fatalf("400 lines on %d pages", len(pages))
	}
	next := 1
	for n, p := range pages {
		if want := fmt.Sprintf("Page %d / %d", n+1, len(pages)); !p.has(want) {
			t.Errorf("page %d does not say %q", n+1, want)
		}
		first := next
		for next <= 400 && p.has(fmt.Sprintf("model-%03d · ", next)) {
			next++
		}
		if next > first && !p.has("项目 Description") {
			t.Errorf("page %d has lines %d to %d without the head of the table", n+1, first, next-1)
		}
		if n > 0 && !p.has("续 continued") {
			t.Errorf("page %d does not say what it continues", n+1)
		}
	}
	if next != 401 {
		t.Errorf("line %d is missing or out of order", next)
	}
	if last := pages[len(pages)-1]; !last.has("CNY 4.00") || !last.has("合计 Total") {
		t.Error("the total is not at the end")
	}
}

func TestPDFOfEveryKindOfLine(t *testing.T) {
	inv := wholeInvoice(t)
	inv.Correction = &ledger.Correction{Number: "INV-AIONE-2023-000000", Reason: "Wrong price of gpt-4o"}
	_, pages := renderPDF(t, inv, exampleParties(), English)
	var all page
	for _, p := range pages {
		all.texts = append(all.texts, p.texts...)
	}
	for _, want := range []string{
		"Usage of the period: 2023-11-01 – 2023-11-09", "Usage of the period: 2023-11-10 – 2023-11-30  team", "gpt-4o · input", "2,222.22",
		"tiered · output · output · tier 2 · flat fee: 5.00", "50 / 1M tokens", "9.9 / packages", "included · team", "commitment true-up · team",
		"monthly fee · team · 21/30 days", "monthly fee charged in advance", "monthly fee of the next period",
		"Late usage of period: 2023-10", "Late usage of earlier periods", "adjustment by the terms of that period · basic", "discount · team · 10% × 777.78",
		"Subtotal", "3,440.00", "Adjustments of earlier periods", "8.10", "Discount", "-77.78", "增值税 VAT 6% on 3,370.32", "202.22",
		"Credit applied: 新用户赠送", "-50.00", "Carried to prepaid balance", "1.25", "CNY 3,523.79", "附加税 0.72% included in 3,370.32", "24.16",
		"Replaces", "INV-AIONE-2023-000000", "Wrong price of gpt-4o",
	} {
		if !all.has(want) {
			t.Errorf("%q is not on the invoice:\n%s", want, strings.Join(all.texts, "\n"))
		}
	}
}

func TestCreditNotePDF(t *testing.T) {
	inv := wholeInvoice(t)
	note := exampleCreditNote(inv)
	b, err := CreditNotePDF(note, inv, exampleParties(), Bilingual)
	if err != nil {
		t.Fatal(err)
	}
	p := readPDF(t, b)[0]
	for _, want := range []string{
		"贷项通知单 Credit note", note.Number, inv.Number, "2023-12-09", "gpt-4o · 输入 input", "80.00", "20.00", "100.00", "CNY 106.00", "CNY 56.00",
		"恢复抵扣额度 Back to credits", "CNY 50.00", note.Reason, note.ID.String(), "部分贷记 Partial credit",
	} {
		if !p.has(want) {
			t.Errorf("%q is not on the credit note:\n%s", want, strings.Join(p.texts, "\n"))
		}
	}
	if again, err := CreditNotePDF(note, inv, exampleParties(), Bilingual); err != nil || !bytes.Equal(b, again) {
		t.Errorf("the same credit note gave other bytes, %v", err)
	}
	for name, change := range map[string]func(*ledger.CreditNote){
		"total":           func(n *ledger.CreditNote) { n.Total = amount("107") },
		"line":            func(n *ledger.CreditNote) { n.Lines = []ledger.CreditLine{{Line: 99, Amount: amount("100")}} },
		"tax":             func(n *ledger.CreditNote) { n.Taxes = nil },
		"another invoice": func(n *ledger.CreditNote) { n.InvoiceID = n.ID },
	} {
		bad := note
		change(&bad)
		if _, err := CreditNotePDF(bad, inv, exampleParties(), English); !errors.Is(err, ErrSums) {
			t.Errorf("%s: %v, want %v", name, err, ErrSums)
		}
	}
}

// Each part of an invoice is held against its lines.
func TestPDFRefusesWhatDoesNotAddUp(t *testing.T) {
	for name, part := range map[string]func(*ledger.Invoice) *ledger.Amount{
		"total": func(i *ledger.Invoice) *ledger.Amount { return &i.Total }, "subtotal": func(i *ledger.Invoice) *ledger.Amount { return &i.Subtotal },
		"adjustments": func(i *ledger.Invoice) *ledger.Amount { return &i.Adjustments }, "discount": func(i *ledger.Invoice) *ledger.Amount { return &i.Discount },
		"tax": func(i *ledger.Invoice) *ledger.Amount { return &i.Tax }, "credits": func(i *ledger.Invoice) *ledger.Amount { return &i.CreditsApplied },
		"carried": func(i *ledger.Invoice) *ledger.Amount { return &i.Carried }, "rate": func(i *ledger.Invoice) *ledger.Amount { return &i.Taxes[0].Amount },
		"line": func(i *ledger.Invoice) *ledger.Amount { return &i.Lines[2].Amount },
	} {
		inv := wholeInvoice(t)
		*part(&inv) = must(part(&inv).Add(amount("0.01")))
		if _, err := InvoicePDF(inv, Settled{}, exampleParties(), English); !errors.Is(err, ErrSums) {
			t.Errorf("another %s: %v, want %v", name, err, ErrSums)
		}
		if err := must(NewFocusExport(io.Discard)).AddInvoice(FocusInvoice{Invoice: inv, Parties: exampleParties()}); !errors.Is(err, ErrSums) {
			t.Errorf("another %s, as FOCUS: %v, want %v", name, err, ErrSums)
		}
	}
	if _, err := InvoicePDF(exampleInvoice(t), Settled{}, exampleParties(), "fr"); err == nil {
		t.Error("a language that there is not was taken")
	}
}

func TestPDFShowsEveryText(t *testing.T) {
	inv := exampleInvoice(t)
	rapid.Check(t, func(t *rapid.T) {
		inv := inv
		inv.Lines = append([]ledger.Line(nil), inv.Lines...)
		model := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
			"模型-😀", "\xff\xfe", "a\x00b", strings.Repeat("长", 300), strings.Repeat("w", 300), "e\u0301", "\u202eabc", "", "  ", "𠮷野家",
		})).Draw(t, "model")
		inv.Lines[0].Model, inv.Lines[0].PriceVersion = model, model+"@1"
		inv.Number = rapid.String().Draw(t, "number")
		_, pages := renderPDF(t, inv, exampleParties(), Bilingual)
		all := ""
		for _, p := range pages {
			all += strings.Join(p.texts, "")
		}
		for _, r := range composed(model) {
			if faceOf(r, false) != nil && r != ' ' && !strings.ContainsRune(all, r) {
				t.Fatalf("%q of model %q is not on the page", r, model)
			}
			if faceOf(r, false) == nil && !strings.Contains(all, strings.TrimSuffix(fmt.Sprintf("%U", r), "]")) {
				t.Fatalf("%U of model %q is lost", r, model)
			}
		}
	})
}

func TestPDFOfAnyInvoice(t *testing.T) {
	whole := wholeInvoice(t)
	rapid.Check(t, func(t *rapid.T) {
		inv := drawInvoice(t, whole)
		inv.Status = rapid.SampledFrom([]ledger.Status{ledger.StatusDraft, ledger.StatusIssued, ledger.StatusVoid, "new"}).Draw(t, "status")
		parties := exampleParties()
		parties.BillTo.Name = rapid.OneOf(rapid.StringN(1, 120, -1), rapid.StringOfN(rapid.SampledFrom([]rune("公司镕臺 ŁóźA&.-（）Рога")), 1, 120, -1)).Draw(t, "name")
		language := rapid.SampledFrom([]Language{Chinese, English, Bilingual}).Draw(t, "language")
		b, err := InvoicePDF(inv, Settled{}, parties, language)
		if errors.Is(err, ErrParty) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		pages := readPDF(t, b)
		if last := pages[len(pages)-1]; !strings.Contains(strings.Join(last.texts, ""), inv.InputHash.String()) {
			t.Fatalf("the last page does not end with the proof: %v", last.texts)
		}
	})
}

// The longest parties, notes and lists that are allowed still fit their pages.
func TestPDFOfLongTexts(t *testing.T) {
	wide := strings.Repeat("镕", ledger.PartyTextRunesMax)
	party := Party{Name: wide, TaxID: wide, Phone: wide, Email: strings.Repeat("a", 60) + "@" + strings.Repeat("b.", 80) + "example"}
	for range ledger.PartyAddressLinesMax {
		party.Address = append(party.Address, wide)
	}
	parties := Parties{
		Issuer: Issuer{Party: party, Bank: Bank{AccountName: wide, BankName: wide, AccountNumber: wide, SWIFT: wide}, Note: strings.Repeat("备注", ledger.PartyNoteRunesMax/2)}, BillTo: party,
	}
	inv := wholeInvoice(t)
	inv.Correction = &ledger.Correction{Number: "INV-1", Reason: strings.Repeat("理由 reason ", 2000)}
	for i := range 80 { // each grant of a hundred top-ups pays a cent
		inv.Lines = append(inv.Lines, ledger.Line{Kind: ledger.LineCredit, Name: fmt.Sprintf("top-up %d %s", i, wide), Exact: amount("-0.01"), Amount: amount("-0.01")})
	}
	_, pages := renderPDF(t, compose(inv, inv.Lines, inv.Taxes...), parties, Bilingual)
	if len(pages) < 4 || !pages[len(pages)-1].has(inv.InputHash.String()) {
		t.Errorf("%d pages", len(pages))
	}
}

// Figures keep to their column, however long they are.
func TestPDFOfLongFigures(t *testing.T) {
	huge := amount("12345678901234567890123456.12")
	inv := compose(exampleInvoice(t), []ledger.Line{{
		Kind: ledger.LineUsage, Model: strings.Repeat("m", 200), Bucket: ledger.BucketInput, PriceVersion: strings.Repeat("v", 200),
		Quantity: 1<<64 - 1, Unit: ledger.UnitTokens, UnitPrice: decimal.RequireFromString("999999.123456"), Exact: huge, Amount: huge,
	}})
	inv.Number = strings.Repeat("INV", 20)
	_, pages := renderPDF(t, inv, exampleParties(), Bilingual)
	found := 0
	for _, p := range pages {
		for i, text := range p.texts {
			if p.xs[i] < left*72/25.4-0.1 {
				t.Errorf("%q begins outside the page, at %.1f points", text, p.xs[i])
			}
			for _, column := range []struct {
				text string
				x    float64
			}{{"18,446,744,073,709,551,615", columnQuantity}, {"999,999.123456 / 1M tokens", columnUnitPrice}, {"12,345,678,901,234,567,890,123,456.12", right - 26}} {
				if text == column.text {
					found++
					if p.xs[i] < column.x*72/25.4-0.1 {
						t.Errorf("%q begins at %.1f points, its column at %.1f", text, p.xs[i], column.x*72/25.4)
					}
				}
			}
		}
	}
	if found != 4 { // the amount is the subtotal too
		t.Errorf("%d of the figures are there", found)
	}
}

func TestPartyNamesAreShownOrRefused(t *testing.T) {
	for name, shows := range map[string]bool{
		"深圳市镕昇数据有限公司": true, "喆堃淼祎玥犇骉赟燊": true, "臺灣國際商業機器股份有限公司": true, "Łódź Größe Ñandú Ltd. “A & B”": true,
		"Cafe\u0301": true, "ООО «Рога и копыта»": true, "Công ty Cổ phần Dữ liệu": true, "中国①Ⅱ㈱": false, "𠮷野家": false, "Acme 😀": false, "עברית": false, "a\nb": false, "a\u202eb": false, "\xff": false,
		"": false, " x": false, strings.Repeat("名", 121): false, strings.Repeat("名", 120): true,
	} {
		parties := exampleParties()
		parties.BillTo.Name = name
		b, err := InvoicePDF(exampleInvoice(t), Settled{}, parties, English)
		if shows != (err == nil) || err != nil && !errors.Is(err, ErrParty) {
			t.Errorf("name %q: %v", name, err)
			continue
		}
		if err == nil && !strings.Contains(strings.Join(readPDF(t, b)[0].texts, ""), composed(name)) {
			t.Errorf("name %q does not come back whole", name)
		}
	}
	parties := exampleParties()
	parties.Issuer.Bank.BankName = "银行😀"
	if err := parties.Check(); err == nil || !strings.Contains(err.Error(), "U+1F600") || !strings.Contains(err.Error(), "issuer: ") {
		t.Errorf("the error %v does not name the character and the side", err)
	}
}

func TestGrouped(t *testing.T) {
	for in, want := range map[string]string{
		"0": "0", "999": "999", "1000": "1,000", "-1000.5": "-1,000.5", "123456789012": "123,456,789,012", "-100": "-100", "0.000001": "0.000001",
	} {
		if got := grouped(in); got != want {
			t.Errorf("grouped(%s) = %s, want %s", in, got, want)
		}
	}
}

// The bold font has every character of the labels; scripts/invoice-font.sh adds
// those of new ones.
func TestBoldHasTheLabels(t *testing.T) {
	var all []label
	for _, l := range statusLabels {
		all = append(all, l)
	}
	for _, l := range lineKindLabels {
		all = append(all, l)
	}
	all = append(all, labelInvoice, labelBillTo, labelAmountDue, labelItem, labelPriceFrom, labelQuantity, labelUnitPrice, labelAmount,
		labelTotal, labelWrittenOff, labelPayment, labelNote, labelReason, labelUsageGroup, labelFeeGroup, labelLateEarlier, labelDiscount, labelLateGroup,
		labelCreditNote, labelCredited, labelCreditedLines, labelFullCredit, labelPartCredit, labelSettlement)
	for _, l := range all {
		if strings.ContainsFunc(l.zh+l.en, func(r rune) bool { return !bold.has(r) }) {
			t.Errorf("bold lacks a character of %q: run scripts/invoice-font.sh", l.zh+l.en)
		}
	}
}

// What was given up does not look like what was paid.
func TestWrittenOffInvoicePDF(t *testing.T) {
	inv := wholeInvoice(t)
	inv.Status = ledger.StatusPaid
	for _, c := range []struct {
		writtenOff  string
		has, hasNot []string
	}{
		{"0", []string{"Paid"}, []string{"Written off"}},
		{"30", []string{"Written off", "-30.00"}, []string{"Paid"}},
	} {
		b, err := InvoicePDF(inv, Settled{WrittenOff: amount(c.writtenOff)}, exampleParties(), English)
		if err != nil {
			t.Fatal(err)
		}
		var all page
		for _, p := range readPDF(t, b) {
			all.texts = append(all.texts, p.texts...)
		}
		for _, text := range c.has {
			if !all.has(text) {
				t.Errorf("with %s written off: no %q", c.writtenOff, text)
			}
		}
		for _, text := range c.hasNot {
			if slices.Contains(all.texts, text) {
				t.Errorf("with %s written off: it says %q", c.writtenOff, text)
			}
		}
	}
}
