package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// leaves lists the paths of all texts, numbers and truths in a JSON value.
func leaves(v any, path string, add func(path string, change func(func(any) any))) {
	switch v := v.(type) {
	case map[string]any:
		for key, member := range v {
			switch member.(type) {
			case map[string]any, []any:
				leaves(member, path+"."+key, add)
			default:
				add(path+"."+key, func(f func(any) any) { v[key] = f(member) })
			}
		}
	case []any:
		for i, member := range v {
			switch member.(type) {
			case map[string]any, []any:
				leaves(member, fmt.Sprint(path, "[", i, "]"), add)
			default:
				add(fmt.Sprint(path, "[", i, "]"), func(f func(any) any) { v[i] = f(member) })
			}
		}
	}
}

// other is a value of the same kind that says something else.
func other(t *rapid.T, v any) any {
	switch v := v.(type) {
	case bool:
		return !v
	case json.Number:
		return json.Number(fmt.Sprint(rapid.IntRange(0, 100).Draw(t, "number")))
	case string:
		digits := strings.IndexAny(v, "0123456789")
		if digits < 0 || rapid.IntRange(0, 3).Draw(t, "append") == 0 {
			return v + "1"
		}
		return v[:digits] + string('0'+(v[digits]-'0'+1)%10) + v[digits+1:]
	}
	return v
}

// Whatever is changed in a stored invoice is found, or changes nothing: by its
// proof, or, for its number, which proves nothing, by the journal's hash of it.
func TestTamperingIsFound(t *testing.T) {
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		draft, err := Bill(drawBillInput(t))
		if errors.Is(err, ErrNothingToBill) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		inv := draft.Issue(InvoiceNumber("AIONE", 2024, 7))
		journal, err := InvoiceJournal(inv)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(inv)
		if err != nil {
			t.Fatal(err)
		}
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.UseNumber()
		var value any
		if err := decoder.Decode(&value); err != nil {
			t.Fatal(err)
		}
		type leaf struct {
			path   string
			change func(func(any) any)
		}
		var all []leaf
		leaves(value, "", func(path string, change func(func(any) any)) { all = append(all, leaf{path, change}) })
		slices.SortFunc(all, func(a, b leaf) int { return strings.Compare(a.path, b.path) })
		l := all[rapid.IntRange(0, len(all)-1).Draw(t, "leaf")]
		l.change(func(v any) any { return other(t, v) })
		if raw, err = json.Marshal(value); err != nil {
			t.Fatal(err)
		}
		var changed Invoice
		if json.Unmarshal(raw, &changed) != nil || bytes.Equal(changed.CanonicalBytes(), inv.CanonicalBytes()) {
			return // it cannot be read, or says the same: "1.50" and "1.5"; the status is not part of it
		}
		found++
		if err := Prove(changed); l.path != ".number" && !errors.Is(err, ErrNotReproducible) {
			t.Fatalf("%s changed, and Prove says %v", l.path, err)
		}
		if hashOf(&changed) == journal.CauseHash {
			t.Fatalf("%s changed, and the journal does not notice", l.path)
		}
	})
	if found == 0 {
		t.Error("nothing was ever changed")
	}
}
