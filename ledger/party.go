package ledger

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a Party: characters of a text, lines of an address, characters of an
// issuer's note.
const (
	PartyTextRunesMax    = 120
	PartyAddressLinesMax = 6
	PartyNoteRunesMax    = 600
)

// ErrParty is returned when a name, address or number cannot stand on a document:
// missing, too long, or not plain text.
var ErrParty = errors.New("invalid party")

// Party is one side of an invoice. Only Name is required.
type Party struct {
	Name    string   `json:"name"`
	Address []string `json:"address,omitempty"` // lines, as they are written in its country
	TaxID   string   `json:"tax_id,omitempty"`
	Email   string   `json:"email,omitempty"`
	Phone   string   `json:"phone,omitempty"`
}

// Bank is where an invoice is paid to. The zero value is none.
type Bank struct {
	AccountName   string `json:"account_name,omitempty"` // holder of the account
	BankName      string `json:"bank_name,omitempty"`    // with its branch
	AccountNumber string `json:"account_number,omitempty"`
	SWIFT         string `json:"swift,omitempty"`
}

// Issuer is a legal entity that sends invoices.
type Issuer struct {
	Party
	Bank Bank   `json:"bank,omitzero"`
	Note string `json:"note,omitempty"` // said at the end of every invoice, e.g. how to ask for a fapiao
}

// Check returns ErrParty unless the issuer can stand on a document.
func (i Issuer) Check() error {
	if err := i.Party.Check(); err != nil {
		return err
	}
	b := i.Bank
	if b != (Bank{}) && (b.AccountName == "" || b.BankName == "" || b.AccountNumber == "") {
		return fmt.Errorf("%w: bank details want the account's name, its bank and its number", ErrParty)
	}
	return errors.Join(
		checkText("bank account name", b.AccountName, PartyTextRunesMax),
		checkText("bank name", b.BankName, PartyTextRunesMax),
		checkText("bank account number", b.AccountNumber, PartyTextRunesMax),
		checkText("SWIFT code", b.SWIFT, PartyTextRunesMax),
		checkText("note", i.Note, PartyNoteRunesMax),
	)
}

// Check returns ErrParty unless the party can stand on a document.
func (p Party) Check() error {
	if p.Name == "" {
		return fmt.Errorf("%w: the name is missing", ErrParty)
	}
	if len(p.Address) > PartyAddressLinesMax {
		return fmt.Errorf("%w: an address of %d lines, %d are allowed", ErrParty, len(p.Address), PartyAddressLinesMax)
	}
	for _, line := range p.Address {
		if line == "" {
			return fmt.Errorf("%w: a line of the address is empty", ErrParty)
		}
		if err := checkText("address", line, PartyTextRunesMax); err != nil {
			return err
		}
	}
	// Whether it reaches anybody only a message to it can tell.
	if local, host, ok := strings.Cut(p.Email, "@"); p.Email != "" && (!ok || local == "" || host == "" || strings.ContainsAny(p.Email, " <>,;") || strings.Contains(host, "@")) {
		return fmt.Errorf("%w: %.100q is no e-mail address", ErrParty, p.Email)
	}
	return errors.Join(
		checkText("name", p.Name, PartyTextRunesMax),
		checkText("tax id", p.TaxID, PartyTextRunesMax),
		checkText("e-mail", p.Email, 2*PartyTextRunesMax),
		checkText("phone", p.Phone, PartyTextRunesMax),
	)
}

// checkText holds a text that people typed against what a document can show.
func checkText(what, text string, runesMax int) error {
	switch {
	case !utf8.ValidString(text):
		return fmt.Errorf("%w: %s is not UTF-8", ErrParty, what)
	case utf8.RuneCountInString(text) > runesMax:
		return fmt.Errorf("%w: %s has more than %d characters", ErrParty, what, runesMax)
	case strings.TrimFunc(text, unicode.IsSpace) != text:
		return fmt.Errorf("%w: %s %.100q begins or ends with space", ErrParty, what, text)
	}
	for _, r := range text {
		if !unicode.IsGraphic(r) {
			return fmt.Errorf("%w: %s has the character %U, which nobody can see", ErrParty, what, r)
		}
	}
	return nil
}
