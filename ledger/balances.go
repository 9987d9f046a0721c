package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"math/bits"
	"slices"
	"strings"

	"github.com/shopspring/decimal"
)

// ErrSnapshot is returned when the bytes of a snapshot of Balances are damaged
// or of another build.
var ErrSnapshot = errors.New("invalid snapshot of balances")

// Balances folds transfers into the balance of each account and currency:
// debits less credits. The zero value has folded nothing. It computes in
// 128-bit integers of 10^-12 currency, exact. It is not safe for concurrent use.
type Balances struct {
	at    map[balanceKey]int
	keys  []balanceKey
	sums  []units
	count uint64
}

type balanceKey struct {
	account  Account
	currency string
}

// units is a signed 128-bit integer of 10^-AmountScale currency, in two's
// complement.
type units struct{ hi, lo uint64 }

func (u units) neg() units {
	lo, borrow := bits.Sub64(0, u.lo, 0)
	hi, _ := bits.Sub64(0, u.hi, borrow)
	return units{hi, lo}
}

// add is u + v; false when the sum has no place in 128 bits.
func (u units) add(v units) (units, bool) {
	lo, carry := bits.Add64(u.lo, v.lo, 0)
	hi, _ := bits.Add64(u.hi, v.hi, carry)
	return units{hi, lo}, (u.hi^v.hi)>>63 == 1 || (u.hi^hi)>>63 == 0
}

var twoTo128 = new(big.Int).Lsh(big.NewInt(1), 128)

func (u units) amount() Amount {
	n := new(big.Int).SetUint64(u.hi)
	n.Lsh(n, 64).Or(n, new(big.Int).SetUint64(u.lo))
	if u.hi>>63 == 1 {
		n.Sub(n, twoTo128)
	}
	return Amount{d: decimal.NewFromBigInt(n, -AmountScale)}
}

// powersOf10Wide are those that fit 64 bits.
var powersOf10Wide = func() (p [20]uint64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = 10 * p[i-1]
	}
	return p
}()

// unitsOf is exact: an Amount is smaller than 10^38 units, below 2^127.
func unitsOf(a Amount) units {
	shift := int(a.d.Exponent()) + AmountScale
	if shift >= 0 && shift < len(powersOf10Wide) && a.d.NumDigits() <= 18 {
		coefficient := a.d.CoefficientInt64()
		magnitude := uint64(max(coefficient, -coefficient))
		hi, lo := bits.Mul64(magnitude, powersOf10Wide[shift])
		if coefficient < 0 {
			return units{hi, lo}.neg()
		}
		return units{hi, lo}
	}
	n := a.d.Shift(AmountScale).BigInt() // whole: there are no more places
	var words [16]byte
	negative := n.Sign() < 0
	n.Abs(n).FillBytes(words[:])
	u := units{binary.BigEndian.Uint64(words[:8]), binary.BigEndian.Uint64(words[8:])}
	if negative {
		return u.neg()
	}
	return u
}

// Add folds a transfer. After an error, which says that a balance has no place
// in 128 bits, the Balances must not be used.
func (b *Balances) Add(t *Transfer) error {
	amount := unitsOf(t.Amount)
	debit, credit := b.slot(balanceKey{t.Debit, t.Currency}), b.slot(balanceKey{t.Credit, t.Currency})
	var fits, fits2 bool
	b.sums[debit], fits = b.sums[debit].add(amount)
	b.sums[credit], fits2 = b.sums[credit].add(amount.neg())
	if !fits || !fits2 {
		return fmt.Errorf("%w: the balance of %s or %s is out of range", ErrAmount, t.Debit, t.Credit)
	}
	b.count++
	return nil
}

// Apply folds the transfers of a journal.
func (b *Balances) Apply(j *Journal) error {
	for i := range j.Transfers {
		if err := b.Add(&j.Transfers[i]); err != nil {
			return err
		}
	}
	return nil
}

func (b *Balances) slot(key balanceKey) int {
	if i, ok := b.at[key]; ok {
		return i
	}
	if b.at == nil {
		b.at = make(map[balanceKey]int)
	}
	i := len(b.keys)
	b.at[key], b.keys, b.sums = i, append(b.keys, key), append(b.sums, units{})
	return i
}

// Balance is debits less credits of an account, zero for one never used. It
// takes the same time however many transfers lie behind it. Sums past the range
// of an Amount are given exactly, too.
func (b *Balances) Balance(account Account, currency string) Amount {
	if i, ok := b.at[balanceKey{account, currency}]; ok {
		return b.sums[i].amount()
	}
	return Amount{}
}

// Count is how many transfers were folded.
func (b *Balances) Count() uint64 { return b.count }

// All calls f with each account's balance, ordered by account and currency.
func (b *Balances) All(f func(account Account, currency string, balance Amount)) {
	for _, key := range b.sorted() {
		f(key.account, key.currency, b.sums[b.at[key]].amount())
	}
}

func (b *Balances) sorted() []balanceKey {
	keys := slices.Clone(b.keys)
	slices.SortFunc(keys, func(x, y balanceKey) int {
		if c := strings.Compare(string(x.account), string(y.account)); c != 0 {
			return c
		}
		return strings.Compare(x.currency, y.currency)
	})
	return keys
}

const snapshotTag = "aione.balances.v1"

// AppendBinary appends a snapshot: equal balances give equal bytes. A snapshot
// only saves time: folding everything again gives the same.
func (b *Balances) AppendBinary(to []byte) ([]byte, error) {
	c := canonical{b: to}
	c.text(snapshotTag)
	c.uint(b.count)
	c.uint(uint64(len(b.keys)))
	for _, key := range b.sorted() {
		c.text(string(key.account))
		c.text(key.currency)
		sum := b.sums[b.at[key]]
		c.uint(sum.hi)
		c.uint(sum.lo)
	}
	return c.b, nil
}

// UnmarshalBinary replaces b by a snapshot, or returns ErrSnapshot and leaves b
// as it is.
func (b *Balances) UnmarshalBinary(from []byte) error {
	r := snapshotReader{rest: from}
	tag := r.text()
	read := Balances{count: r.uint()}
	n := r.uint()
	for range n {
		if r.bad {
			break
		}
		key := balanceKey{Account(r.text()), r.text()}
		if _, twice := read.at[key]; twice {
			r.bad = true
		}
		read.sums[read.slot(key)] = units{r.uint(), r.uint()}
	}
	if r.bad || tag != snapshotTag || len(r.rest) > 0 {
		return ErrSnapshot
	}
	*b = read
	return nil
}

type snapshotReader struct {
	rest []byte
	bad  bool
}

func (r *snapshotReader) uint() uint64 {
	if len(r.rest) < 8 {
		r.bad = true
		return 0
	}
	n := binary.BigEndian.Uint64(r.rest)
	r.rest = r.rest[8:]
	return n
}

func (r *snapshotReader) text() string {
	n := r.uint()
	if n > uint64(len(r.rest)) {
		r.bad = true
		return ""
	}
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}
