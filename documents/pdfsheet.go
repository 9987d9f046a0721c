package documents

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"codeberg.org/go-pdf/fpdf"
	"github.com/rivo/uniseg"
)

// Measures of the page in millimetres; sizes of fonts are in points.
const (
	pageWidth    = 210.0 // A4
	pageHeight   = 297.0
	left         = 18.0
	right        = pageWidth - left
	top          = 18.0
	bottom       = pageHeight - 19.0 // the footer is below
	footerY      = pageHeight - 12.0
	mmPerPoint   = 25.4 / 72
	leadingSizes = 1.45 // from line to line, in sizes of the font
)

type colour struct{ r, g, b int }

var (
	ink    = colour{31, 41, 55}
	grey   = colour{107, 114, 128}
	accent = colour{30, 58, 95}
	pale   = colour{243, 245, 248}
	faint  = colour{209, 213, 219}
	white  = colour{255, 255, 255}
	green  = colour{21, 128, 61}
	red    = colour{185, 28, 28}
)

// style is how a text looks.
type style struct {
	size   float64 // points
	bold   bool
	colour colour
}

var (
	body      = style{size: 9, colour: ink}
	small     = style{size: 7.5, colour: grey}
	caption   = style{size: 8, colour: grey}
	heading   = style{size: 9.5, bold: true, colour: accent}
	titleFont = style{size: 20, bold: true, colour: accent}
)

func (s style) leading() float64 { return s.size * mmPerPoint * leadingSizes }

// sheet is a PDF that is written from top to bottom. y is where the next thing
// goes; texts are placed by the middle of their line.
type sheet struct {
	pdf *fpdf.Fpdf
	y   float64
}

// newSheet begins a document whose bytes depend on its arguments only.
func newSheet(createdAt time.Time, title, author string, language Language) *sheet {
	pdf := fpdf.New(fpdf.OrientationPortrait, fpdf.UnitMillimeter, fpdf.PageSizeA4, "")
	pdf.SetCatalogSort(true) // else fonts come in the order of a map
	pdf.SetCreationDate(createdAt.UTC())
	pdf.SetModificationDate(createdAt.UTC())
	pdf.SetTitle(title, true)
	pdf.SetAuthor(author, true)
	pdf.SetCreator("AIone", true)
	pdf.SetLang(language.tag())
	pdf.SetAutoPageBreak(false, 0)
	pdf.SetMargins(0, 0, 0)
	for _, f := range []*face{regular, bold, european} {
		pdf.AddUTF8FontFromBytes(f.family, f.weight, f.ttf)
	}
	return &sheet{pdf: pdf}
}

// run calls draw for each piece of the text that is of one font, which it
// selects. Characters that no font has are shown by their numbers.
func (s *sheet) run(text string, st style, draw func(piece string)) {
	text = shown(text)
	for from := 0; from < len(text); {
		var f *face
		to := len(text)
		for i, r := range text[from:] {
			g := faceOf(r, st.bold)
			if f != nil && g != f {
				to = from + i
				break
			}
			f = g
		}
		s.pdf.SetFont(f.family, f.weight, st.size)
		draw(text[from:to])
		from = to
	}
}

func (s *sheet) width(text string, st style) (mm float64) {
	s.run(text, st, func(piece string) { mm += s.pdf.GetStringWidth(piece) })
	return mm
}

// text writes one line that begins at x and whose middle is at y.
func (s *sheet) text(x, y float64, text string, st style) {
	s.pdf.SetTextColor(st.colour.r, st.colour.g, st.colour.b)
	base := y + st.size*mmPerPoint*0.36 // from the middle of capitals
	s.run(text, st, func(piece string) {
		s.pdf.Text(x, base, piece)
		x += s.pdf.GetStringWidth(piece)
	})
}

// textRight writes one line that ends at x.
func (s *sheet) textRight(x, y float64, text string, st style) {
	s.text(x-s.width(text, st), y, text, st)
}

// cellRight writes one line that ends at the right edge of a cell, smaller if it
// would not fit.
func (s *sheet) cellRight(x1, x2, y float64, text string, st style) {
	if w := s.width(text, st); w > x2-x1 {
		st.size *= (x2 - x1) / w
	}
	s.textRight(x2, y, text, st)
}

// paragraph writes a text in lines of a width from y on, and gives where it ends.
func (s *sheet) paragraph(x, y, width float64, text string, st style) float64 {
	for _, l := range s.wrap(text, width, st) {
		s.text(x, y+st.leading()/2, l, st)
		y += st.leading()
	}
	return y
}

// clip is as much of a text as fits on one line, with an ellipsis if that is not
// all; only what is written in full elsewhere may be clipped.
func (s *sheet) clip(text string, width float64, st style) string {
	if s.width(text, st) <= width {
		return text
	}
	return s.wrap(text, width-4, st)[0] + "…"
}

// wrap breaks a text where Unicode allows it, and a word that is wider than a
// line wherever that line ends.
func (s *sheet) wrap(text string, width float64, st style) []string {
	var lines []string
	current := ""
	add := func(piece string) {
		if strings.TrimSpace(current) != "" && s.width(strings.TrimRight(current+piece, " "), st) > width {
			lines = append(lines, strings.TrimRight(current, " "))
			current = ""
		}
		current += piece
	}
	rest, state := shown(text), -1
	for rest != "" {
		var segment string
		segment, rest, _, state = uniseg.FirstLineSegmentInString(rest, state)
		if s.width(strings.TrimRight(segment, " "), st) <= width {
			add(segment)
			continue
		}
		for _, r := range segment {
			add(string(r))
		}
	}
	return append(lines, strings.TrimRight(current, " "))
}

// rule draws a horizontal line.
func (s *sheet) rule(x1, x2, y, width float64, c colour) {
	s.pdf.SetDrawColor(c.r, c.g, c.b)
	s.pdf.SetLineWidth(width)
	s.pdf.Line(x1, y, x2, y)
}

// box fills a rectangle.
func (s *sheet) box(x, y, w, h float64, c colour) {
	s.pdf.SetFillColor(c.r, c.g, c.b)
	s.pdf.Rect(x, y, w, h, "F")
}

// across writes large across the page, so pale that all under it can be read.
func (s *sheet) across(text string, c colour) {
	st := style{size: 84, bold: true, colour: c}
	for s.width(text, st) > 220 {
		st.size *= 0.9
	}
	s.pdf.SetAlpha(0.10, "Normal")
	s.pdf.TransformBegin()
	s.pdf.TransformRotate(52, pageWidth/2, pageHeight/2)
	s.text((pageWidth-s.width(text, st))/2, pageHeight/2, text, st)
	s.pdf.TransformEnd()
	s.pdf.SetAlpha(1, "Normal")
}

func (s *sheet) bytes() ([]byte, error) {
	var out bytes.Buffer
	if err := s.pdf.Output(&out); err != nil {
		return nil, fmt.Errorf("write PDF: %w", err)
	}
	return out.Bytes(), nil
}
