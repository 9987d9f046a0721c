package gateway

import (
	"fmt"
	"strings"

	"aione/events"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// messagesAnswer is an answer of Anthropic's, but for its usage.
type messagesAnswer struct {
	ID           string          `json:"id"`
	Type         string          `json:"type"`
	Role         string          `json:"role"`
	Model        string          `json:"model"`
	Content      []messagesBlock `json:"content"`
	StopReason   *string         `json:"stop_reason"`
	StopSequence *string         `json:"stop_sequence"`
}

// unsigned is the signature of thoughts that Anthropic's models did not have.
var unsigned = new("")

func (anthropicSpeaker) message(q *request, id string) messagesAnswer {
	return messagesAnswer{ID: "msg_" + strings.TrimPrefix(id, "msg_"), Type: "message", Role: "assistant", Model: q.model, Content: []messagesBlock{}}
}

// stopOf is Anthropic's word for a finish reason.
func stopOf(finish string) string {
	switch finish {
	case "length":
		return "max_tokens"
	case "tool_calls", "function_call":
		return "tool_use"
	case "content_filter":
		return "refusal"
	default:
		return "end_turn"
	}
}

func (s anthropicSpeaker) whole(q *request, a *heard) ([]byte, error) {
	choice := &a.Choices[0]
	calls, err := q.calls(&choice.Message, a.ID, choice.Finish)
	if err != nil {
		return nil, err
	}
	m, stop := s.message(q, a.ID), stopOf(choice.Finish)
	m.StopReason = &stop
	if t := choice.Message.thoughts(); t != "" && q.translated.thoughts {
		m.Content = append(m.Content, messagesBlock{Type: "thinking", Thinking: t, Signature: unsigned})
	}
	if t := choice.Message.text(); t != "" {
		m.Content = append(m.Content, messagesBlock{Type: "text", Text: t})
	}
	for _, image := range choice.Message.Images {
		m.Content = append(m.Content, imageBlock(image))
	}
	for _, c := range calls {
		m.Content = append(m.Content, messagesBlock{Type: "tool_use", ID: c.ID, Name: c.Function.Name, Input: jsontext.Value(c.Function.Arguments)})
	}
	out, err := json.Marshal(m, lenient)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errGarbage, err)
	}
	return out, nil
}

// imageBlock is a picture, which Anthropic's own models do not draw, as requests
// in its dialect have it.
func imageBlock(image completionImage) messagesBlock {
	p := (part{}).of(image.ImageURL.URL)
	return p.image()
}

// usage: input_tokens exclude what the cache holds or is given; output_tokens
// include thinking.
func (anthropicSpeaker) usage(t events.Tokens) string {
	return fmt.Sprintf(`"usage":{"input_tokens":%d,"cache_creation_input_tokens":%d,"cache_read_input_tokens":%d,`+
		`"cache_creation":{"ephemeral_5m_input_tokens":%d,"ephemeral_1h_input_tokens":%d},"output_tokens":%d,"output_tokens_details":{"thinking_tokens":%d}}`,
		t.Input, t.CacheWrite5m+t.CacheWrite1h, t.CacheRead, t.CacheWrite5m, t.CacheWrite1h, t.Completion(), t.Reasoning)
}

func (s anthropicSpeaker) stream(q *request) speech {
	return &messagesSpeech{speaker: s, q: q}
}

// messagesSpeech writes Anthropic's stream: a message of blocks, each begun, gone
// on with and stopped before the next. The prompt's tokens are known when the
// answer ends, and are told there: message_start has none.
type messagesSpeech struct {
	speaker anthropicSpeaker
	q       *request
	id      string
	begun   bool
	block   int    // the present one
	open    string // its type; empty if there is none
	calls   int    // begun so far
	call    struct {
		index int
		id    string
	} // the present one, as the upstream numbers and names it
	finish string
}

func (s *messagesSpeech) event(b []byte, typ, members string) []byte {
	return appendEvent(b, []byte(typ), []byte(`{"type":"`+typ+`"`+members+`}`))
}

func (s *messagesSpeech) begin(b []byte) []byte {
	if s.begun {
		return b
	}
	s.begun = true
	message, err := json.Marshal(s.speaker.message(s.q, s.id), lenient)
	if err != nil { // names that were decoded before
		return b
	}
	message = append(message[:len(message)-1], `,"usage":{"input_tokens":0,"output_tokens":0}}`...)
	return s.event(b, "message_start", `,"message":`+string(message))
}

// into begins a block, and ends the one before, if it is another.
func (s *messagesSpeech) into(b []byte, typ, block string) []byte {
	b = s.stop(s.begin(b))
	s.open = typ
	return s.event(b, "content_block_start", fmt.Sprintf(`,"index":%d,"content_block":%s`, s.block, block))
}

func (s *messagesSpeech) delta(b []byte, delta string) []byte {
	return s.event(b, "content_block_delta", fmt.Sprintf(`,"index":%d,"delta":%s`, s.block, delta))
}

func (s *messagesSpeech) stop(b []byte) []byte {
	if s.open == "" {
		return b
	}
	b = s.event(b, "content_block_stop", fmt.Sprintf(`,"index":%d`, s.block))
	s.block++
	s.open = ""
	return b
}

func (s *messagesSpeech) chunk(b []byte, c *heard) ([]byte, error) {
	s.id = orString(c.ID, s.id)
	for i := range c.Choices {
		choice := &c.Choices[i]
		if choice.Index != 0 {
			return b, fmt.Errorf("%w: another choice, which nobody asked for", errGarbage)
		}
		m := &choice.Delta
		if t := m.thoughts(); t != "" && s.q.translated.thoughts {
			if s.open != "thinking" {
				b = s.into(b, "thinking", `{"type":"thinking","thinking":"","signature":""}`)
			}
			b = s.delta(b, `{"type":"thinking_delta","thinking":`+quoted(t)+`}`)
		}
		if t := m.text(); t != "" {
			if s.open != "text" {
				b = s.into(b, "text", `{"type":"text","text":""}`)
			}
			b = s.delta(b, `{"type":"text_delta","text":`+quoted(t)+`}`)
		}
		for _, image := range m.Images {
			block, err := json.Marshal(imageBlock(image), lenient)
			if err != nil {
				return b, fmt.Errorf("%w: %w", errGarbage, err)
			}
			b = s.stop(s.into(b, "image", string(block)))
		}
		for j := range m.ToolCalls {
			var err error
			if b, err = s.tool(b, &m.ToolCalls[j]); err != nil {
				return b, err
			}
		}
		s.finish = orString(choice.Finish, s.finish)
	}
	return b, nil
}

// tool writes a piece of a tool call. A new one has another index, or, from some
// upstreams, only another id.
func (s *messagesSpeech) tool(b []byte, c *chatCall) ([]byte, error) {
	index := 0
	if c.Index != nil {
		index = *c.Index
	}
	same := s.calls > 0 && index == s.call.index && (c.ID == "" || c.ID == s.call.id)
	switch {
	case !same && c.Function.Name == "":
		return b, fmt.Errorf("%w: a piece of a tool call that has not begun", errGarbage)
	case !same:
		s.call.index, s.call.id = index, c.ID
		id := orString(c.ID, mintedID(s.id, s.calls))
		s.calls++
		b = s.into(b, "tool_use", `{"type":"tool_use","id":`+quoted(id)+`,"name":`+quoted(s.q.clientsName(c.Function.Name))+`,"input":{}}`)
	case s.open != "tool_use":
		return b, fmt.Errorf("%w: a piece of a tool call that has ended", errGarbage)
	}
	if c.Function.Arguments == "" {
		return b, nil
	}
	return s.delta(b, `{"type":"input_json_delta","partial_json":`+quoted(c.Function.Arguments)+`}`), nil
}

func (s *messagesSpeech) end(b []byte, used events.Tokens) []byte {
	b = s.stop(s.begin(b))
	b = s.event(b, "message_delta", `,"delta":{"stop_reason":"`+stopOf(s.finish)+`","stop_sequence":null},`+s.speaker.usage(used))
	return s.event(b, "message_stop", "")
}
