package httpapi

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"aione/documents"

	"github.com/google/uuid"
)

// wanted is the first media type of Accept that is offered; without any, the
// first one offered.
func wanted(r *http.Request, offered ...string) string {
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		media, _, _ := mime.ParseMediaType(part)
		switch {
		case slices.Contains(offered, media):
			return media
		case media == "*/*":
			return offered[0]
		}
	}
	return offered[0]
}

// byteOrderMark makes spreadsheets take a CSV for UTF-8; some do not look otherwise.
var byteOrderMark = param{kind: choiceParam, name: "bom", words: []string{"false", "true"}, doc: "Begin a CSV with a byte order mark, for spreadsheets that would take it for another encoding."}

// marked writes the byte order mark, if it is wanted, and gives the rest to w.
func marked(w http.ResponseWriter, bom bool) io.Writer {
	if bom {
		_, _ = io.WriteString(w, "\ufeff") // the client left: there is nobody to tell
	}
	return w
}

// answerPDF makes a document and sends it, in the org's turn: a long one takes a
// processor for a while.
func (s *Server) answerPDF(w http.ResponseWriter, orgID uuid.UUID, number string, render func() ([]byte, error)) error {
	if err := s.queries.take(orgID); err != nil {
		return err
	}
	defer s.queries.giveBack(orgID)
	b, err := render()
	if errors.Is(err, documents.ErrParty) {
		return &apiError{status: http.StatusConflict, detail: "the document cannot be made: " + why(err, documents.ErrParty), cause: err}
	}
	if err != nil {
		return fmt.Errorf("make the PDF of %s: %w", number, err)
	}
	w.Header().Set("Content-Disposition", fmt.Sprintf("inline; filename=%q", cmp.Or(number, "draft")+".pdf"))
	writeBytes(w, http.StatusOK, pdfType, b)
	return nil
}
