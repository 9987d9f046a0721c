package simulator

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"
)

// gemini is the dialect of Google's generateContent.
type gemini struct{}

func (gemini) secret(r *http.Request) string {
	if key := r.Header.Get("X-Goog-Api-Key"); key != "" {
		return key
	}
	return r.URL.Query().Get("key")
}

type geminiContent struct {
	Parts []struct {
		Text string `json:"text"`
	} `json:"parts"`
}

func (c geminiContent) words() (n int64) {
	for _, p := range c.Parts {
		n += words(p.Text)
	}
	return n
}

type geminiRequest struct {
	Contents          []geminiContent `json:"contents"`
	SystemInstruction geminiContent   `json:"systemInstruction"`
	Tools             []struct {
		FunctionDeclarations []struct {
			Name string `json:"name"`
		} `json:"functionDeclarations"`
	} `json:"tools"`
	ToolConfig struct {
		FunctionCallingConfig struct {
			Mode                 string   `json:"mode"`
			AllowedFunctionNames []string `json:"allowedFunctionNames"`
		} `json:"functionCallingConfig"`
	} `json:"toolConfig"`
	GenerationConfig struct {
		MaxOutputTokens  *int64 `json:"maxOutputTokens"`
		ResponseMimeType string `json:"responseMimeType"`
		ImageConfig      struct {
			AspectRatio string `json:"aspectRatio"`
			ImageSize   string `json:"imageSize"`
		} `json:"imageConfig"`
	} `json:"generationConfig"`
	Simulate Simulate `json:"simulate"`
}

func (gemini) parse(r *http.Request, body []byte) (*request, error) {
	call := r.PathValue("call")
	at := strings.LastIndexByte(call, ':')
	if at < 0 {
		return nil, errors.New("the path names no method")
	}
	q := &request{model: call[:at], includeUsage: true}
	switch call[at+1:] {
	case "generateContent":
	case "streamGenerateContent":
		if q.stream = true; r.URL.Query().Get("alt") != "sse" {
			return nil, errors.New("only alt=sse is simulated")
		}
	default:
		return nil, fmt.Errorf("method %q is unknown", call[at+1:])
	}
	var in geminiRequest
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	g := in.GenerationConfig
	if err := checkPicture(g.ImageConfig.AspectRatio, g.ImageConfig.ImageSize); err != nil {
		return nil, err
	}
	q.sim, q.maxTokens, q.json = in.Simulate, g.MaxOutputTokens, g.ResponseMimeType == "application/json"
	q.words = in.SystemInstruction.words()
	for _, c := range in.Contents {
		q.words += c.words()
	}
	var names []string
	for _, t := range in.Tools {
		for _, f := range t.FunctionDeclarations {
			names = append(names, f.Name)
		}
	}
	calling, named := in.ToolConfig.FunctionCallingConfig, ""
	if len(calling.AllowedFunctionNames) > 0 && calling.Mode == "ANY" {
		named = calling.AllowedFunctionNames[0]
	}
	q.tool = chosenTool(names, in.Simulate.ToolCall, named, calling.Mode == "ANY")
	return q, nil
}

func (gemini) failure(status int, message, code string) []byte {
	name := map[int]string{400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
		429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}[status]
	if name == "" {
		name = "INTERNAL"
	}
	b := appendQuoted(fmt.Appendf(nil, `{"error":{"code":%d,"message":`, status), message)
	return fmt.Appendf(b, `,"status":%q,"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":%q,"domain":"simulator"}]}}`, name, strings.ToUpper(code))
}

// chunk is one answer or one event: parts i of n of the text, and the end of the
// answer if last.
func (d gemini) chunk(b []byte, a *answer, share string, last bool) []byte {
	b = append(b, `{"candidates":[{"content":{"parts":[`...)
	switch {
	case a.request.tool == "":
		b = append(appendQuoted(append(b, `{"text":`...), share), '}')
	case last: // arguments are an object, so they come in one piece
		b = appendQuoted(append(b, `{"functionCall":{"name":`...), a.request.tool)
		b = append(b, `,"args":`+a.text+"}}"...)
	default:
		b = append(b, `{"text":""}`...)
	}
	if last {
		for range a.counts.images {
			b = append(b, `,{"inlineData":{"mimeType":"image/png","data":"`+pixel+`"}}`...)
		}
	}
	b = append(b, `],"role":"model"}`...)
	if last {
		b = append(b, `,"finishReason":"STOP"`...)
	}
	b = append(b, `,"index":0}]`...)
	if a.sim.Usage != UsageMissing {
		b = d.usage(append(b, `,"usageMetadata":`...), a, last)
	}
	b = appendQuoted(append(b, `,"modelVersion":`...), a.request.model)
	return fmt.Appendf(b, `,"responseId":%q}`, a.id)
}

func (d gemini) plain(b []byte, a *answer) []byte { return d.chunk(b, a, a.text, true) }

func (gemini) opening(b []byte, _ *answer) []byte { return b }

func (d gemini) piece(b []byte, a *answer, i int) []byte {
	return append(d.chunk(append(b, "data: "...), a, a.share(i), false), "\r\n\r\n"...)
}

// ending is a chunk without text: the end of the stream says that it is over.
func (d gemini) ending(b []byte, a *answer) []byte {
	return append(d.chunk(append(b, "data: "...), a, "", true), "\r\n\r\n"...)
}

func (d gemini) streamFailure(b []byte) []byte {
	return d.line(b, string(d.failure(http.StatusServiceUnavailable, "Simulated failure.", "simulated_error")))
}

func (gemini) line(b []byte, data string) []byte { return append(b, "data: "+data+"\r\n\r\n"...) }

// usage: promptTokenCount includes the cached ones, candidatesTokenCount excludes
// the thoughts. Before the end only the prompt is counted.
func (gemini) usage(b []byte, a *answer, last bool) []byte {
	c := a.reported()
	candidates := c.completion - c.reasoning
	if a.sim.Usage == UsageNegative {
		candidates = -1
	}
	if !last {
		return fmt.Appendf(b, `{"promptTokenCount":%d,"cachedContentTokenCount":%d,"totalTokenCount":%d}`, c.prompt, c.cached, c.prompt)
	}
	b = fmt.Appendf(b, `{"promptTokenCount":%d,"cachedContentTokenCount":%d,"candidatesTokenCount":%d,"thoughtsTokenCount":%d,"totalTokenCount":%d`,
		c.prompt, c.cached, candidates, c.reasoning, c.prompt+candidates+c.reasoning)
	if c.images > 0 {
		b = fmt.Appendf(b, `,"candidatesTokensDetails":[{"modality":"IMAGE","tokenCount":%d}]`, candidates)
	}
	return append(b, '}')
}
