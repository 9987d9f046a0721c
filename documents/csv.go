package documents

import (
	"encoding/csv"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Table writes CSV (RFC 4180: a header, CRLF, quotes where needed) that a
// spreadsheet may open: a cell that it would run as a formula gets an apostrophe
// in front. Numbers stay as they are, negative ones too.
type Table struct {
	csv     *csv.Writer
	columns int
}

// NewTable begins a table with its header.
func NewTable(w io.Writer, columns []string) (*Table, error) {
	t := &Table{csv: csv.NewWriter(w), columns: len(columns)}
	t.csv.UseCRLF = true
	return t, t.csv.Write(columns)
}

// Row writes one row; it must have a cell for each column.
func (t *Table) Row(cells ...string) error {
	if len(cells) != t.columns {
		return fmt.Errorf("a row of %d cells in a table of %d columns", len(cells), t.columns)
	}
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = inert(c)
	}
	return t.csv.Write(row)
}

// Close writes what is left and returns the first error of writing.
func (t *Table) Close() error {
	t.csv.Flush()
	return t.csv.Error()
}

var plainNumber = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)

// inert keeps a spreadsheet from running a cell as a formula. Some look past
// leading blanks, and take full-width signs for the plain ones.
func inert(cell string) string {
	first, _ := utf8.DecodeRuneInString(strings.TrimLeft(cell, " \u00a0\u3000"))
	if !strings.ContainsRune("=+-@\t\r\n＝＋－＠", first) || plainNumber.MatchString(cell) {
		return cell
	}
	return "'" + cell
}
