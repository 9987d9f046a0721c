package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// output prints for people, or one JSON value for scripts.
type output struct {
	stdout, stderr io.Writer
	json           bool
}

// result prints v as JSON if that was asked for, else what text prints. A list
// without members is an empty one, never null.
func (o *output) result(v any, text func()) error {
	if !o.json {
		text()
		return nil
	}
	if list := reflect.ValueOf(v); list.Kind() == reflect.Slice && list.IsNil() {
		v = []any{}
	}
	e := json.NewEncoder(o.stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// say prints a line for people.
func (o *output) say(format string, args ...any) {
	if !o.json {
		fmt.Fprintf(o.stdout, format+"\n", args...)
	}
}

// table prints rows in columns: figures to the right, words to the left.
func (o *output) table(title string, header []string, rows [][]string) {
	if o.json {
		return
	}
	width := make([]int, len(header))
	figures := make([]bool, len(header))
	for c := range header {
		width[c], figures[c] = utf8.RuneCountInString(header[c]), len(rows) > 0
		for _, r := range rows {
			width[c] = max(width[c], utf8.RuneCountInString(r[c]))
			figures[c] = figures[c] && strings.Trim(r[c], "0123456789.,-") == ""
		}
	}
	line := func(cells []string) {
		var b strings.Builder
		for c, cell := range cells {
			pad := strings.Repeat(" ", width[c]-utf8.RuneCountInString(cell))
			if figures[c] {
				b.WriteString("  " + pad + cell)
			} else {
				b.WriteString("  " + cell + pad)
			}
		}
		fmt.Fprintln(o.stdout, strings.TrimRight(b.String(), " "))
	}
	fmt.Fprintf(o.stdout, "\n%s\n", title)
	line(header)
	rule := make([]string, len(header))
	for c := range header {
		rule[c] = strings.Repeat("─", width[c])
	}
	line(rule)
	for _, r := range rows {
		line(r)
	}
}

// progress shows how far long work is, if somebody is watching.
func (o *output) progress(what string) func(done, total uint64) {
	f, ok := o.stderr.(*os.File)
	if o.json || !ok || !term.IsTerminal(int(f.Fd())) {
		return func(done, total uint64) {}
	}
	var bar *progressbar.ProgressBar
	return func(done, total uint64) {
		if bar == nil {
			bar = progressbar.NewOptions64(int64(total), progressbar.OptionSetWriter(f), progressbar.OptionSetDescription(what),
				progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionShowCount())
		}
		bar.ChangeMax64(int64(total))
		if err := bar.Set64(int64(done)); err != nil {
			return // a bar that cannot draw is no reason to stop the work
		}
	}
}

// thousands writes 1234567 as 1,234,567.
func thousands(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
