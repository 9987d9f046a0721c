package documents

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// parseCSV gives the rows as maps from column to cell.
func parseCSV(t rapid.TB, text string) (columns []string, rows []map[string]string) {
	t.Helper()
	records, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatalf("not CSV: %v\n%s", err, text)
	}
	for _, record := range records[1:] {
		row := make(map[string]string, len(record))
		for i, cell := range record {
			row[records[0][i]] = cell
		}
		rows = append(rows, row)
	}
	return records[0], rows
}

func TestInertCells(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "gpt-4o": "gpt-4o", "a=1": "a=1", "模型": "模型", " a": " a", "\xff": "\xff",
		"=1": "'=1", "+1": "'+1", "@a": "'@a", "\t=1": "'\t=1", "\r=1": "'\r=1", "\n=1": "'\n=1", " =1": "' =1", "＝1": "'＝1", "－1": "'－1",
		"-1": "-1", "-12.50": "-12.50", "-1+2": "'-1+2", "-": "'-", "-.5": "'-.5", "-1e5": "'-1e5", "-1\n=2": "'-1\n=2",
	} {
		if got := inert(in); got != want {
			t.Errorf("inert(%q) = %q, want %q", in, got, want)
		}
	}
}

// Cells come back as they went in, but for the apostrophe of formulas.
func TestTableComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cell := rapid.Custom(func(t *rapid.T) string {
			s := rapid.OneOf(rapid.String(), rapid.StringMatching(`[-=+@"',;\t 0-9.]{0,6}`)).Draw(t, "cell")
			return strings.NewReplacer("\r", "", "\n", "").Replace(s) // a reader may not tell CRLF from LF
		})
		cells := rapid.SliceOfN(cell, 3, 3).Draw(t, "cells")
		var out bytes.Buffer
		table, err := NewTable(&out, []string{"a", "b", "c"})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(table.Row(cells...), table.Close()); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(out.String(), "a,b,c\r\n") || !strings.HasSuffix(out.String(), "\r\n") {
			t.Fatalf("not RFC 4180: %q", out.String())
		}
		_, rows := parseCSV(t, out.String())
		for i, name := range []string{"a", "b", "c"} {
			got := rows[0][name]
			if strings.TrimPrefix(got, "'") != strings.TrimPrefix(cells[i], "'") {
				t.Fatalf("%q came back as %q", cells[i], got)
			}
			if strings.ContainsAny(got[:min(1, len(got))], "=+@\t") || strings.HasPrefix(got, "-") && !plainNumber.MatchString(got) {
				t.Fatalf("a spreadsheet would run %q", got)
			}
		}
	})
}

func TestTableRefusesRowsOfOtherWidth(t *testing.T) {
	table, err := NewTable(io.Discard, []string{"a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Row("1"); err == nil {
		t.Error("a row of one cell was taken in a table of two columns")
	}
}
