package gateway

import (
	"fmt"
	"strings"

	"aione/events"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// generateOut is an answer of Gemini's, or an event of one, but for its usage.
type generateOut struct {
	Candidates []generateCandidate `json:"candidates"`
	Model      string              `json:"modelVersion"`
	ID         string              `json:"responseId"`
}

type generateCandidate struct {
	Content generateMessage `json:"content"`
	Finish  string          `json:"finishReason,omitempty"`
	Index   int             `json:"index"`
}

// reasonOf is Gemini's word for a finish reason.
func reasonOf(finish string) string {
	switch finish {
	case "length":
		return "MAX_TOKENS"
	case "content_filter":
		return "SAFETY"
	default:
		return "STOP"
	}
}

func (geminiSpeaker) answer(q *request, id string) generateOut {
	return generateOut{Candidates: []generateCandidate{}, Model: q.model, ID: id}
}

// parts are what a message says, but for its tool calls.
func (geminiSpeaker) parts(q *request, m *heardMsg) (ps []generatePart) {
	if t := m.thoughts(); t != "" && q.translated.thoughts {
		ps = append(ps, generatePart{Text: t, Thought: true})
	}
	if t := m.text(); t != "" {
		ps = append(ps, generatePart{Text: t})
	}
	for _, image := range m.Images {
		if p := (part{}).of(image.ImageURL.URL); p.data != "" {
			ps = append(ps, generatePart{InlineData: &generateBlob{p.media, p.data}})
		} else {
			ps = append(ps, generatePart{FileData: &generateFile{p.url}})
		}
	}
	return ps
}

func callPart(c *chatCall) generatePart {
	p := generatePart{Call: &generateCall{ID: c.ID, Name: c.Function.Name, Args: jsontext.Value(c.Function.Arguments)}}
	if c.Extra != nil {
		p.Signature = c.Extra.Google.ThoughtSignature
	}
	return p
}

func (s geminiSpeaker) whole(q *request, a *heard) ([]byte, error) {
	out := s.answer(q, a.ID)
	for i := range a.Choices {
		choice := &a.Choices[i]
		c := generateCandidate{Content: generateMessage{Role: "model", Parts: s.parts(q, &choice.Message)}, Finish: reasonOf(choice.Finish), Index: choice.Index}
		calls, err := q.calls(&choice.Message, a.ID, choice.Finish)
		if err != nil {
			return nil, err
		}
		for j := range calls {
			c.Content.Parts = append(c.Content.Parts, callPart(&calls[j]))
		}
		out.Candidates = append(out.Candidates, c)
	}
	b, err := json.Marshal(out, lenient)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errGarbage, err)
	}
	return b, nil
}

// usage: promptTokenCount includes the cached ones, candidatesTokenCount excludes
// the thoughts. Google leaves counts of zero out.
func (geminiSpeaker) usage(t events.Tokens) string {
	var b strings.Builder
	fmt.Fprintf(&b, `"usageMetadata":{"promptTokenCount":%d,`, t.Prompt())
	for _, c := range []struct {
		name string
		n    uint64
	}{{"cachedContentTokenCount", t.CacheRead}, {"candidatesTokenCount", t.Output}, {"thoughtsTokenCount", t.Reasoning}} {
		if c.n > 0 {
			fmt.Fprintf(&b, `"%s":%d,`, c.name, c.n)
		}
	}
	fmt.Fprintf(&b, `"totalTokenCount":%d}`, t.Total())
	return b.String()
}

func (s geminiSpeaker) stream(q *request) speech {
	return &generateSpeech{speaker: s, q: q, candidates: map[int]*spoken{}}
}

// generateSpeech writes Gemini's stream. Arguments of a tool call are an object
// there, so a call is told when it is complete; the finish and the usage are told
// in one last event, when they are settled.
type generateSpeech struct {
	speaker    geminiSpeaker
	q          *request
	id         string
	candidates map[int]*spoken
	order      []int // of them, as they came
}

// spoken is the state of a candidate.
type spoken struct {
	calls  []chatCall // in pieces
	told   int        // how many of them
	finish string
}

func (s *generateSpeech) of(index int) *spoken {
	c := s.candidates[index]
	if c == nil {
		c = &spoken{}
		s.candidates[index] = c
		s.order = append(s.order, index)
	}
	return c
}

func (s *generateSpeech) chunk(b []byte, h *heard) ([]byte, error) {
	s.id = orString(h.ID, s.id)
	for i := range h.Choices {
		choice := &h.Choices[i]
		c := s.of(choice.Index)
		ps := s.speaker.parts(s.q, &choice.Delta)
		for j := range choice.Delta.ToolCalls {
			if err := c.piece(&choice.Delta.ToolCalls[j]); err != nil {
				return b, err
			}
		}
		if c.finish = orString(choice.Finish, c.finish); c.finish != "" {
			calls, err := c.complete(s.q, s.id)
			if err != nil {
				return b, err
			}
			ps = append(ps, calls...)
		}
		if len(ps) == 0 {
			continue
		}
		out := s.speaker.answer(s.q, s.id)
		out.Candidates = append(out.Candidates, generateCandidate{Content: generateMessage{Role: "model", Parts: ps}, Index: choice.Index})
		data, err := json.Marshal(out, lenient)
		if err != nil {
			return b, fmt.Errorf("%w: %w", errGarbage, err)
		}
		b = appendEvent(b, nil, data)
	}
	return b, nil
}

// piece takes a piece of a tool call. A new one has another index, or, from some
// upstreams, only another id.
func (c *spoken) piece(p *chatCall) error {
	for i := len(c.calls) - 1; i >= 0; i-- {
		if at := &c.calls[i]; sameIndex(at, p) && (p.ID == "" || p.ID == at.ID) {
			if i < c.told {
				return fmt.Errorf("%w: a piece of a tool call that has ended", errGarbage)
			}
			at.Function.Arguments += p.Function.Arguments
			return nil
		}
	}
	if p.Function.Name == "" {
		return fmt.Errorf("%w: a piece of a tool call that has not begun", errGarbage)
	}
	c.calls = append(c.calls, *p)
	return nil
}

func sameIndex(a, b *chatCall) bool {
	return a.Index == b.Index || a.Index != nil && b.Index != nil && *a.Index == *b.Index
}

// complete are the calls not told yet, once nothing more can come of them.
func (c *spoken) complete(q *request, id string) ([]generatePart, error) {
	whole, err := q.calls(&heardMsg{ToolCalls: c.calls}, id, c.finish)
	if err != nil {
		return nil, err
	}
	var ps []generatePart
	for i := c.told; i < len(whole); i++ {
		ps = append(ps, callPart(&whole[i]))
	}
	c.told = len(c.calls)
	return ps, nil
}

func (s *generateSpeech) end(b []byte, used events.Tokens) []byte {
	s.of(0) // an answer has one candidate at least
	var data strings.Builder
	data.WriteString(`{"candidates":[`)
	for i, index := range s.order {
		if i > 0 {
			data.WriteByte(',')
		}
		fmt.Fprintf(&data, `{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":%q,"index":%d}`, reasonOf(s.candidates[index].finish), index)
	}
	fmt.Fprintf(&data, `],%s,"modelVersion":%s,"responseId":%s}`, s.speaker.usage(used), quoted(s.q.model), quoted(s.id))
	return appendEvent(b, nil, []byte(data.String()))
}
