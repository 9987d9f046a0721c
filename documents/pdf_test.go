package documents

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/ledongthuc/pdf"
	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"aione/ledger"
)

// page is what a reader finds on a page.
type page struct {
	texts []string // as they were written, each with one operator
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
	b, err := InvoicePDF(inv, parties, language)
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
	inv.Status = ledger.StatusPaid
	if paid, _ := renderPDF(t, inv, parties, Bilingual); bytes.Equal(first, paid) {
		t.Error("an invoice that was paid looks like one that was not")
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
	cent, err := ledger.ParseAmount("0.01")
	if err != nil {
		t.Fatal(err)
	}
	inv.Lines, inv.Total = nil, ledger.Amount{}
	for i := range n {
		inv.Lines = append(inv.Lines, ledger.Line{
			Model: fmt.Sprintf("model-%03d", i+1), Bucket: ledger.BucketInput, PriceVersion: fmt.Sprintf("model-%03d@1", i+1),
			Quantity: 1000, Unit: ledger.UnitTokens, UnitPrice: decimal.NewFromInt(10), Exact: cent, Amount: cent,
		})
		if inv.Total, err = inv.Total.Add(cent); err != nil {
			t.Fatal(err)
		}
	}
	return inv
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

// Nothing is drawn outside the page, whatever is written.
func TestPDFRefusesWhatDoesNotAddUp(t *testing.T) {
	inv := exampleInvoice(t)
	inv.Total = ledger.AmountFromInt(1)
	if _, err := InvoicePDF(inv, exampleParties(), English); !errors.Is(err, ErrSums) {
		t.Errorf("a total that the lines do not give: %v, want %v", err, ErrSums)
	}
	if _, err := InvoicePDF(exampleInvoice(t), exampleParties(), "fr"); err == nil {
		t.Error("a language that there is not was taken")
	}
}

func TestPDFShowsEveryText(t *testing.T) {
	inv := exampleInvoice(t)
	rapid.Check(t, func(t *rapid.T) {
		inv := inv
		inv.Lines = append([]ledger.Line(nil), inv.Lines...)
		model := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
			"模型-😀", "\xff\xfe", "a\x00b", strings.Repeat("长", 300), strings.Repeat("w", 300), "e\u0301", "‮abc", "", "  ", "𠮷野家",
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

func TestPartyNamesAreShownOrRefused(t *testing.T) {
	for name, shows := range map[string]bool{
		"深圳市镕昇数据有限公司": true, "喆堃淼祎玥犇骉赟燊": true, "臺灣國際商業機器股份有限公司": true, "Łódź Größe Ñandú Ltd. “A & B”": true,
		"Cafe\u0301": true, "ООО «Рога и копыта»": true, "Công ty Cổ phần Dữ liệu": true, "中国①Ⅱ㈱": false, "𠮷野家": false, "Acme 😀": false, "עברית": false, "a\nb": false, "a\u202eb": false, "\xff": false,
		"": false, " x": false, strings.Repeat("名", 121): false, strings.Repeat("名", 120): true,
	} {
		parties := exampleParties()
		parties.BillTo.Name = name
		b, err := InvoicePDF(exampleInvoice(t), parties, English)
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
	all = append(all, labelInvoice, labelBillTo, labelAmountDue, labelItem, labelPriceFrom, labelQuantity, labelUnitPrice, labelAmount,
		labelTotal, labelPayment, labelNote, labelUsageGroup, lateGroup("2023-10"))
	for _, l := range all {
		if strings.ContainsFunc(l.zh+l.en, func(r rune) bool { return !bold.has(r) }) {
			t.Errorf("bold lacks a character of %q: run scripts/invoice-font.sh", l.zh+l.en)
		}
	}
}
