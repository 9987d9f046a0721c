package ledger

import (
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// arithmetic reads the arithmetic of explanations as a person would, and knows
// nothing of lines: numbers, units that mean nothing, + - × ÷, parentheses and min.
type arithmetic struct {
	words []string
	err   error
}

var (
	thousands  = regexp.MustCompile(`(\d),(\d{3})`)
	printed    = regexp.MustCompile(`^(.*) = (-?[0-9.]+)(?: [A-Z]{3})?( \(rounded\))?$`)
	amountStep = regexp.MustCompile(`^(amount|rounded once, a half to even, to [0-9.]+): (-?[0-9.]+) [A-Z]{3}$`)
	symbols    = regexp.MustCompile(`min|[0-9.]+|[-+×÷(),]`)
	meaning    = regexp.MustCompile(`\b(tokens|images|requests|packages|days|flat fee|[A-Z]{3})\b`)
)

// valueOf is what a text with arithmetic comes to; of "words: arithmetic" what is
// behind the words.
func valueOf(text string) (*big.Rat, error) {
	if i := strings.LastIndex(text, ": "); i >= 0 {
		text = text[i+2:]
	}
	for thousands.MatchString(text) {
		text = thousands.ReplaceAllString(text, "$1$2")
	}
	text = meaning.ReplaceAllString(text, "")
	if rest := strings.TrimSpace(symbols.ReplaceAllString(text, "")); rest != "" {
		return nil, fmt.Errorf("%q is no arithmetic: %q", text, rest)
	}
	a := arithmetic{words: symbols.FindAllString(text, -1)}
	v := a.sum()
	if a.err == nil && len(a.words) > 0 {
		a.err = fmt.Errorf("%q ends before %q", text, a.words)
	}
	return v, a.err
}

func (a *arithmetic) next(words ...string) string {
	for _, w := range words {
		if len(a.words) > 0 && a.words[0] == w {
			a.words = a.words[1:]
			return w
		}
	}
	return ""
}

func (a *arithmetic) want(word string) {
	if a.next(word) == "" && a.err == nil {
		a.err = fmt.Errorf("no %q before %q", word, a.words)
	}
}

func (a *arithmetic) sum() *big.Rat {
	v := a.product()
	for op := a.next("+", "-"); op != ""; op = a.next("+", "-") {
		if w := a.product(); op == "+" {
			v = plus(v, w)
		} else {
			v = minus(v, w)
		}
	}
	return v
}

func (a *arithmetic) product() *big.Rat {
	v := a.factor()
	for op := a.next("×", "÷"); op != ""; op = a.next("×", "÷") {
		if w := a.factor(); op == "×" {
			v = product(v, w)
		} else if w.Sign() != 0 {
			v = quotient(v, w)
		} else if a.err == nil {
			a.err = errors.New("something is divided by zero")
		}
	}
	return v
}

func (a *arithmetic) factor() *big.Rat {
	switch {
	case a.next("-") != "":
		return new(big.Rat).Neg(a.factor())
	case a.next("(") != "":
		v := a.sum()
		a.want(")")
		return v
	case a.next("min") != "":
		a.want("(")
		v := a.sum()
		a.want(",")
		v = least(v, a.sum())
		a.want(")")
		return v
	}
	if len(a.words) > 0 {
		if v, ok := new(big.Rat).SetString(a.words[0]); ok {
			a.words = a.words[1:]
			return v
		}
	}
	if a.err == nil {
		a.err = fmt.Errorf("no number before %q", a.words)
	}
	return new(big.Rat)
}

// checkExplained holds each line of an invoice against its explanation, read
// literally: every "=" is true, and the last gives the amount, rounded once.
func checkExplained(inv Invoice) error {
	places, _ := MinorUnits(inv.Currency)
	for i := range inv.Lines {
		steps, err := Explain(inv, i+1)
		if err != nil {
			return err
		}
		var last *big.Rat
		for _, step := range steps {
			p := printed.FindStringSubmatch(step)
			if p == nil {
				if strings.Contains(step, " = ") {
					return fmt.Errorf("line %d: nobody can read %q", i+1, step)
				}
				continue
			}
			left, err := valueOf(p[1])
			if err != nil {
				return fmt.Errorf("line %d: %q: %w", i+1, step, err)
			}
			if p[3] != "" {
				left = modelRound(left, int64(places))
			}
			if last, _ = new(big.Rat).SetString(p[2]); last.Cmp(left) != 0 {
				return fmt.Errorf("line %d: %q: that is %s", i+1, step, left.FloatString(12))
			}
		}
		if last == nil {
			return fmt.Errorf("line %d has no arithmetic: %q", i+1, steps)
		}
		end := amountStep.FindStringSubmatch(steps[len(steps)-1])
		if end == nil {
			return fmt.Errorf("line %d ends with %q", i+1, steps[len(steps)-1])
		}
		if end[1] != "amount" {
			last = modelRound(last, int64(places))
		}
		said, _ := new(big.Rat).SetString(end[2])
		if amount := rat(inv.Lines[i].Amount.d); said.Cmp(last) != 0 || said.Cmp(amount) != 0 {
			return fmt.Errorf("line %d comes to %s and is explained by %q", i+1, inv.Lines[i].Amount, steps)
		}
	}
	return nil
}

// The explanation of each line, read literally, gives its amount. All scenarios and
// lives check it too.
func TestExplanationsComeToTheAmount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		inv, err := Bill(drawBillInput(t))
		if errors.Is(err, ErrNothingToBill) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := checkExplained(inv); err != nil {
			t.Fatal(err)
		}
	})
}
