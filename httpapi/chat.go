package httpapi

import (
	"net/http"

	"aione/keys"

	"github.com/danielgtaylor/huma/v2"
)

// The gateway answers these routes itself, each in its client's dialect. They are
// in the table so that there is one document; nothing here reads or checks them.

type chatRequest struct {
	_             struct{}       `additionalProperties:"true"`
	Model         string         `json:"model" example:"gpt-4o"`
	Messages      []anyObject    `json:"messages"`
	Temperature   fraction       `json:"temperature,omitempty" doc:"Default 1.0."`
	TopP          fraction       `json:"top_p,omitempty"`
	MaxTokens     uint64         `json:"max_tokens,omitempty"`
	Stream        bool           `json:"stream,omitempty" doc:"Answers text/event-stream: chunks, then [DONE]."`
	StreamOptions *streamOptions `json:"stream_options,omitempty"`
	Tools         []anyObject    `json:"tools,omitempty"`

	ResponseFormat anyObject `json:"response_format,omitempty"`
	AspectRatio    string    `json:"aspect_ratio,omitempty" example:"16:9" doc:"Of pictures, with gemini-*-image* models."`
	ImageSize      string    `json:"image_size,omitempty" example:"2K" doc:"Of pictures."`
	TopK           uint64    `json:"top_k,omitempty" doc:"With Gemini's models."`
}

// fraction is any JSON number, for the document.
type fraction string

// Schema implements huma.SchemaProvider.
func (fraction) Schema(huma.Registry) *huma.Schema { return &huma.Schema{Type: huma.TypeNumber} }

type streamOptions struct {
	IncludeUsage bool `json:"include_usage,omitempty"`
}

type chatCompletion struct {
	_       struct{}    `additionalProperties:"true"`
	ID      string      `json:"id"`
	Object  string      `json:"object"`
	Created int64       `json:"created"`
	Model   string      `json:"model"`
	Choices []anyObject `json:"choices"`
	Usage   *chatUsage  `json:"usage,omitempty"`
}

type chatUsage struct {
	_                struct{}  `additionalProperties:"true"`
	PromptTokens     uint64    `json:"prompt_tokens"`
	CompletionTokens uint64    `json:"completion_tokens"`
	TotalTokens      uint64    `json:"total_tokens"`
	PromptDetails    anyObject `json:"prompt_tokens_details,omitempty"`
	OutputDetails    anyObject `json:"completion_tokens_details,omitempty"`
}

type chatModels struct {
	Object string      `json:"object"`
	Data   []chatModel `json:"data"`
}

type chatModel struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

// messagesRequest is a request in Anthropic's dialect.
type messagesRequest struct {
	_           struct{}    `additionalProperties:"true"`
	Model       string      `json:"model" example:"claude-haiku-4-5"`
	MaxTokens   uint64      `json:"max_tokens" minimum:"1"`
	Messages    []anyObject `json:"messages"`
	Temperature fraction    `json:"temperature,omitempty"`
	Stream      bool        `json:"stream,omitempty" doc:"Answers text/event-stream, up to message_stop."`
	Tools       []anyObject `json:"tools,omitempty"`
}

// generateRequest is a request in Gemini's dialect.
type generateRequest struct {
	_                 struct{}          `additionalProperties:"true"`
	Contents          []anyObject       `json:"contents"`
	SystemInstruction anyObject         `json:"systemInstruction,omitempty"`
	GenerationConfig  *generationConfig `json:"generationConfig,omitempty"`
	Tools             []anyObject       `json:"tools,omitempty"`
}

type generationConfig struct {
	_               struct{} `additionalProperties:"true"`
	MaxOutputTokens uint64   `json:"maxOutputTokens,omitempty" minimum:"1"`
	CandidateCount  uint64   `json:"candidateCount,omitempty" minimum:"1" maximum:"128"`
	Temperature     fraction `json:"temperature,omitempty"`
}

// chatError is an error in OpenAI's dialect.
type chatError struct {
	Error struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Code    *string `json:"code"`
		Param   *string `json:"param"`
	} `json:"error"`
}

// messagesError is an error in Anthropic's dialect.
type messagesError struct {
	Type  string `json:"type" enum:"error"`
	Error struct {
		Type    string `json:"type"`
		Message string `json:"message"`
		Code    string `json:"code"`
	} `json:"error"`
}

// generateError is an error in Gemini's dialect.
type generateError struct {
	Error struct {
		Code    int         `json:"code"`
		Message string      `json:"message"`
		Status  string      `json:"status"`
		Details []anyObject `json:"details"`
	} `json:"error"`
}

// everyModel is said of each dialect.
const everyModel = "Every model can be called: where its provider speaks another dialect, requests and answers are translated, and what cannot be is refused by name. What the provider runs, keeps or sells beside the tokens (its own tools, caches by name, other tiers) is refused: `not_metered`."

// altParam is the one way in which Gemini's streams are sent.
var altParam = param{kind: choiceParam, name: "alt", words: []string{"sse"}, required: true, doc: "Streams are server-sent events."}

func (s *Server) chatRoutes() []route {
	if s.config.Gateway == nil {
		return nil
	}
	stream := []content{{media: "text/event-stream"}}
	routes := []route{{
		method: http.MethodPost, path: "/v1/chat/completions", id: "createChatCompletion", tag: tagChat, summary: "Chat",
		doc:    "As OpenAI has it: streaming, tools, images and what else the model knows; members that are not named here are passed on. " + everyModel,
		body:   body{of: chatRequest{}, example: `{"model":"gpt-4o","messages":[{"role":"user","content":"Hello"}]}`},
		answer: success{of: chatCompletion{}, other: stream}, refusals: chatRefusals(chatError{}),
	}, {
		method: http.MethodPost, path: "/v1/messages", id: "createMessage", tag: tagChat, summary: "Messages",
		doc:    "As Anthropic has it, streaming too; the key in x-api-key or as Bearer. " + everyModel,
		body:   body{of: messagesRequest{}, example: `{"model":"claude-haiku-4-5","max_tokens":100,"messages":[{"role":"user","content":"Hello"}]}`},
		answer: success{of: anyObject{}, other: stream}, refusals: chatRefusals(messagesError{}),
	}, {
		method: http.MethodPost, path: "/v1beta/models/{model}:generateContent", id: "generateContent", tag: tagChat, summary: "Generate Content",
		doc:    "As Gemini has it; below /v1 too. " + everyModel,
		body:   body{of: generateRequest{}, example: `{"contents":[{"role":"user","parts":[{"text":"Hello"}]}]}`},
		answer: success{of: anyObject{}}, refusals: chatRefusals(generateError{}),
	}, {
		method: http.MethodPost, path: "/v1beta/models/{model}:streamGenerateContent", id: "streamGenerateContent", tag: tagChat, summary: "Stream Content",
		doc:    "As Gemini has it; below /v1 too. " + everyModel,
		params: []param{altParam},
		body:   body{of: generateRequest{}, example: `{"contents":[{"role":"user","parts":[{"text":"Hello"}]}]}`},
		answer: success{other: stream}, refusals: chatRefusals(generateError{}),
	}, {
		method: http.MethodGet, path: "/v1/models", id: "listModels", tag: tagModels, summary: "List models of a key",
		doc:    "The models that this key may use, by their standard ids.",
		answer: success{of: chatModels{}}, refusals: chatRefusals(chatError{}),
	}}
	for i := range routes {
		routes[i].scope, routes[i].elsewhere = keys.ScopeChat, true
	}
	return routes
}

// chatRefusals are how the gateway says no, each in the form of a dialect.
func chatRefusals(form any) []refusal {
	var all []refusal
	for _, no := range []refusal{
		{status: http.StatusBadRequest}, {status: http.StatusUnauthorized, doc: "There is no key, or none of ours."},
		{status: http.StatusPaymentRequired, doc: "The budget is spent."}, {status: http.StatusForbidden, doc: "The key is disabled, or not for this model or address."},
		{status: http.StatusNotFound, doc: "There is no such model."}, {status: http.StatusRequestEntityTooLarge}, {status: http.StatusTooManyRequests},
		{status: http.StatusInternalServerError}, {status: http.StatusBadGateway, doc: "The provider failed."},
		{status: http.StatusServiceUnavailable}, {status: http.StatusGatewayTimeout, doc: "The provider took too long."},
	} {
		no.instead = form
		all = append(all, no)
	}
	return all
}
