package documents

import (
	_ "embed"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/image/font/sfnt"
	"golang.org/x/text/unicode/norm"
)

// The fonts of the PDF, cut by scripts/invoice-font.sh to what invoices are written
// with. Their licences are beside them.
var (
	//go:embed font/NotoSansSC-Regular.ttf
	regularTTF []byte
	//go:embed font/NotoSansSC-Bold.ttf
	boldTTF []byte // digits, Latin and the labels
	//go:embed font/NotoSans-Regular.ttf
	europeanTTF []byte // letters that Chinese fonts lack
)

// face is one font.
type face struct {
	family, weight string // as fpdf knows it
	ttf            []byte
	font           func() *sfnt.Font
}

func newFace(family, weight string, ttf []byte) *face {
	return &face{family: family, weight: weight, ttf: ttf, font: sync.OnceValue(func() *sfnt.Font {
		f, err := sfnt.Parse(ttf)
		if err != nil {
			panic(fmt.Sprintf("documents: the embedded font %s%s is broken: %v", family, weight, err)) // a fault of the build, seen by every test
		}
		return f
	})}
}

var (
	regular  = newFace("NotoSansSC", "", regularTTF)
	bold     = newFace("NotoSansSC", "B", boldTTF)
	european = newFace("NotoSans", "", europeanTTF)
)

// has reports whether the font can draw r. PDF texts are written in units of 16
// bits, so that characters beyond them are never there.
func (f *face) has(r rune) bool {
	if r > 0xFFFF {
		return false
	}
	i, err := f.font().GlyphIndex(nil, r)
	return err == nil && i != 0
}

// faceOf finds the font to draw r with, nil if there is none.
func faceOf(r rune, wantsBold bool) *face {
	switch {
	case wantsBold && bold.has(r):
		return bold
	case regular.has(r):
		return regular
	case european.has(r):
		return european
	}
	return nil
}

// composed is the text with letters and accents in one character where there is
// one: the fonts have no accents to combine.
func composed(text string) string { return norm.NFC.String(text) }

// firstMissing finds the first character that cannot be drawn.
func firstMissing(text string) (r rune, missing bool) {
	for _, r := range composed(text) {
		if faceOf(r, false) == nil {
			return r, true
		}
	}
	return 0, false
}

// shown is a machine-made text with each character that cannot be drawn given by
// its number: "[U+1F600]".
func shown(text string) string {
	text = composed(text)
	if _, missing := firstMissing(text); !missing {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if faceOf(r, false) != nil {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "[%U]", r)
		}
	}
	return b.String()
}
