package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// generateIn is a request in Gemini's dialect, its names in camel case. What is a
// bare value is checked by parse, or only tunes.
type generateIn struct {
	Contents   oneOrMore[generateInMsg]  `json:"contents"`
	System     *generateInMsg            `json:"systemInstruction"`
	Tools      oneOrMore[generateInTool] `json:"tools"`
	ToolConfig struct {
		Calling struct {
			Mode    string   `json:"mode"`
			Allowed []string `json:"allowedFunctionNames"`
		} `json:"functionCallingConfig"`
	} `json:"toolConfig"`
	Generation generationIn   `json:"generationConfig"`
	Simulate   jsontext.Value `json:"simulate"`

	Model         jsontext.Value `json:"model"`
	Safety        jsontext.Value `json:"safetySettings"`
	Labels        jsontext.Value `json:"labels"`
	ServiceTier   jsontext.Value `json:"serviceTier"`
	CachedContent jsontext.Value `json:"cachedContent"`
}

type generateInMsg struct {
	Role  string                    `json:"role"`
	Parts oneOrMore[generateInPart] `json:"parts"`
}

type generateInPart struct {
	Text       string `json:"text"`
	Thought    bool   `json:"thought"`
	InlineData *struct {
		MimeType string         `json:"mimeType"`
		Data     string         `json:"data"`
		Name     jsontext.Value `json:"displayName"`
	} `json:"inlineData"`
	FileData *struct {
		MimeType string         `json:"mimeType"`
		URI      string         `json:"fileUri"`
		Name     jsontext.Value `json:"displayName"`
	} `json:"fileData"`
	Call *struct {
		ID   string         `json:"id"`
		Name string         `json:"name"`
		Args jsontext.Value `json:"args"`
	} `json:"functionCall"`
	Response *struct {
		ID       string         `json:"id"`
		Name     string         `json:"name"`
		Response jsontext.Value `json:"response"`
	} `json:"functionResponse"`
	Signature       jsontext.Value `json:"thoughtSignature"`
	MediaResolution jsontext.Value `json:"mediaResolution"`
}

type generateInTool struct {
	Functions oneOrMore[struct {
		Name        string         `json:"name"`
		Description string         `json:"description"`
		Parameters  jsontext.Value `json:"parameters"`
		Schema      jsontext.Value `json:"parametersJsonSchema"`
		Response    jsontext.Value `json:"response"`
		ResponseOf  jsontext.Value `json:"responseJsonSchema"`
	}] `json:"functionDeclarations"`
}

type generationIn struct {
	CandidateCount   jsontext.Value `json:"candidateCount"`
	MaxOutputTokens  jsontext.Value `json:"maxOutputTokens"`
	Stop             []string       `json:"stopSequences"`
	Temperature      jsontext.Value `json:"temperature"`
	TopP             jsontext.Value `json:"topP"`
	TopK             jsontext.Value `json:"topK"`
	Seed             jsontext.Value `json:"seed"`
	PresencePenalty  jsontext.Value `json:"presencePenalty"`
	FrequencyPenalty jsontext.Value `json:"frequencyPenalty"`
	MimeType         string         `json:"responseMimeType"`
	Schema           jsontext.Value `json:"responseSchema"`
	JSONSchema       jsontext.Value `json:"responseJsonSchema"`
	Modalities       []string       `json:"responseModalities"`
	Image            struct {
		AspectRatio string `json:"aspectRatio"`
		ImageSize   string `json:"imageSize"`
	} `json:"imageConfig"`
	Thinking struct {
		Include bool           `json:"includeThoughts"`
		Budget  jsontext.Value `json:"thinkingBudget"`
		Level   jsontext.Value `json:"thinkingLevel"`
	} `json:"thinkingConfig"`
	MediaResolution jsontext.Value `json:"mediaResolution"`
}

// oneOrMore is a list; Google takes a single element for one.
type oneOrMore[T any] []T

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (l *oneOrMore[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '{' {
		return json.UnmarshalDecode(d, (*[]T)(l))
	}
	*l = make([]T, 1)
	return json.UnmarshalDecode(d, &(*l)[0])
}

// verbatim are members whose names are the client's own.
var verbatim = map[string]bool{"args": true, "response": true, "parameters": true, "parametersJsonSchema": true,
	"responseSchema": true, "responseJsonSchema": true, "labels": true, "simulate": true}

// camelCased gives all names their one form: Google takes the other one too.
func camelCased(body []byte) ([]byte, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(body))
	var out bytes.Buffer
	e := jsontext.NewEncoder(&out)
	for {
		in, n := d.StackIndex(d.StackDepth())
		token, err := d.ReadToken()
		if errors.Is(err, io.EOF) {
			return out.Bytes(), nil
		}
		if err != nil {
			return nil, badJSON(err)
		}
		isName := in == '{' && n%2 == 0 && token.Kind() == '"'
		if !isName {
			if err := e.WriteToken(token); err != nil {
				return nil, badJSON(err)
			}
			continue
		}
		name := camel(token.String())
		if err := e.WriteToken(jsontext.String(name)); err != nil {
			return nil, badJSON(err) // there twice, in both forms
		}
		if verbatim[name] {
			value, err := d.ReadValue()
			if err == nil {
				err = e.WriteValue(value)
			}
			if err != nil {
				return nil, badJSON(err)
			}
		}
	}
}

func camel(name string) string {
	head, rest, more := strings.Cut(name, "_")
	for more && head != "" {
		var word string
		word, rest, more = strings.Cut(rest, "_")
		if word != "" {
			head += strings.ToUpper(word[:1]) + word[1:]
		}
	}
	return orString(head, name)
}

// geminiSpeaker is Gemini's dialect in terms of OpenAI's.
type geminiSpeaker struct{}

func (geminiSpeaker) chat(q *request, to Dialect) (*chatCompletion, error) {
	body, err := camelCased(q.body)
	if err != nil {
		return nil, err
	}
	var in generateIn
	if err := decodeStrictly(body, &in); err != nil {
		return nil, err
	}
	c := &chatCompletion{Simulate: in.Simulate}
	q.translated.thoughts = in.Generation.Thinking.Include
	if err := in.Generation.into(c, q, to); err != nil {
		return nil, err
	}
	if err := in.tools(q, c); err != nil {
		return nil, err
	}
	if in.System != nil {
		in.System.Role = "system"
		in.Contents = slices.Insert(in.Contents, 0, *in.System)
	}
	var open []chatCall // calls that have no result yet
	for i := range in.Contents {
		if err := in.Contents[i].into(c, q, &open); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (g *generationIn) into(c *chatCompletion, q *request, to Dialect) error {
	c.Temperature, c.TopP = number(g.Temperature), number(g.TopP)
	if to == DialectOpenAI {
		c.Seed, c.PresencePenalty, c.FrequencyPenalty = number(g.Seed), number(g.PresencePenalty), number(g.FrequencyPenalty)
	} else {
		c.TopK = number(g.TopK)
	}
	if len(g.Stop) > 0 {
		c.Stop, _ = json.Marshal(g.Stop) // strings that were decoded
	}
	c.AspectRatio, c.ImageSize = g.Image.AspectRatio, g.Image.ImageSize
	for _, m := range g.Modalities {
		if m = strings.ToUpper(m); m != "TEXT" && m != "MODALITY_UNSPECIFIED" && (m != "IMAGE" || to == DialectAnthropic) {
			return notTranslated("generationConfig.responseModalities", fmt.Sprintf("%q in 'generationConfig.responseModalities'", shown(m)))
		}
	}
	if to == DialectAnthropic && q.choices > 1 {
		return notTranslated("generationConfig.candidateCount", "More than one candidate ('generationConfig.candidateCount')")
	}
	schema := g.JSONSchema
	if g.Schema.Kind() == '{' {
		schema = jsonSchema(g.Schema)
	}
	switch {
	case g.MimeType == "" && schema.Kind() != '{', g.MimeType == "text/plain":
	case g.MimeType != "application/json" && g.MimeType != "":
		return notTranslated("generationConfig.responseMimeType", fmt.Sprintf("'generationConfig.responseMimeType' %q", shown(g.MimeType)))
	case schema.Kind() == '{':
		c.ResponseFormat = newFormat(schema)
	case to == DialectAnthropic:
		return notTranslated("generationConfig.responseMimeType", "JSON without a schema ('generationConfig.responseMimeType')")
	default:
		c.ResponseFormat = &chatFormat{Type: "json_object"}
	}
	return nil
}

// tools: of several that are allowed, only those are told of.
func (in *generateIn) tools(q *request, c *chatCompletion) error {
	calling := in.ToolConfig.Calling
	choice := map[string]string{"": "", "MODE_UNSPECIFIED": "", "AUTO": "auto", "VALIDATED": "auto", "NONE": "none", "ANY": "required"}
	mode, ok := choice[strings.ToUpper(calling.Mode)]
	if !ok {
		return notTranslated("toolConfig.functionCallingConfig.mode", fmt.Sprintf("'toolConfig.functionCallingConfig.mode' %q", shown(calling.Mode)))
	}
	only := calling.Allowed
	if mode == "none" {
		only = nil
	}
	for _, t := range in.Tools {
		for _, f := range t.Functions {
			if len(only) > 0 && !slices.Contains(only, f.Name) {
				continue
			}
			schema := f.Schema
			if f.Parameters.Kind() == '{' {
				schema = jsonSchema(f.Parameters)
			}
			c.Tools = append(c.Tools, newTool(q.sentName(f.Name), f.Description, schema))
		}
	}
	switch {
	case mode == "", len(c.Tools) == 0:
	case mode == "required" && len(only) == 1:
		c.ToolChoice = namedChoice(q.sentName(only[0]))
	default:
		c.ToolChoice = textContent(mode)
	}
	return nil
}

// into translates a content: results first, which must follow their calls.
func (m *generateInMsg) into(c *chatCompletion, q *request, open *[]chatCall) error {
	role, ok := map[string]string{"": "user", "user": "user", "function": "user", "model": "assistant", "system": "system"}[m.Role]
	if !ok {
		return notTranslated("contents", fmt.Sprintf("A content of role %q", shown(m.Role)))
	}
	out := chatMessage{Role: role, Content: jsontext.Value("null")}
	var said []chatPart
	for i := range m.Parts {
		p := &m.Parts[i]
		switch {
		case p.Call != nil && role == "assistant":
			call := newCall(p.Call.ID, q.sentName(p.Call.Name), "{}")
			if p.Call.Args.Kind() == '{' {
				call.Function.Arguments = string(p.Call.Args)
			}
			if call.ID == "" {
				q.translated.minted++
				call.ID = fmt.Sprintf("call_%d", q.translated.minted)
			}
			out.ToolCalls = append(out.ToolCalls, call)
			*open = append(*open, call)
		case p.Response != nil && role == "user":
			i := slices.IndexFunc(*open, func(c chatCall) bool { return c.ID == p.Response.ID })
			if i < 0 { // the first of its name
				i = slices.IndexFunc(*open, func(c chatCall) bool { return c.Function.Name == q.sentName(p.Response.Name) })
			}
			if i < 0 {
				return badRequest("invalid_value", "contents", "A functionResponse answers no functionCall before it: its name is %q.", shown(p.Response.Name))
			}
			result := string(p.Response.Response)
			c.Messages = append(c.Messages, chatMessage{Role: "tool", ToolCallID: (*open)[i].ID, Content: textContent(orString(result, "{}"))})
			*open = slices.Delete(*open, i, i+1)
		default:
			part, err := p.part(role)
			if err != nil {
				return err
			}
			if part.Type != "" {
				said = append(said, part)
			}
		}
	}
	if len(said)+len(out.ToolCalls) == 0 {
		return nil
	}
	between := "\n"
	if role == "assistant" {
		between = "" // its parts are one text
	}
	if len(said) > 0 {
		var err error
		if out.Content, err = partsContent(said, between); err != nil {
			return err
		}
	}
	c.Messages = append(c.Messages, out)
	return nil
}

// part is a text, a picture or a document; thoughts of before are none.
func (p *generateInPart) part(role string) (chatPart, error) {
	what := "media"
	switch {
	case p.Call != nil:
		what = "functionCall"
	case p.Response != nil:
		what = "functionResponse"
	case p.Thought || p.Text == "" && p.InlineData == nil && p.FileData == nil:
		return chatPart{}, nil
	case p.Text != "":
		return textPart(p.Text), nil
	}
	if role != "user" || what != "media" {
		return chatPart{}, notTranslated("contents", fmt.Sprintf("A part with %s in a content of role %q", what, role))
	}
	if p.InlineData != nil {
		return dataPart("contents", p.InlineData.MimeType, p.InlineData.Data)
	}
	f := p.FileData
	// What lies with Google needs the key of who put it there.
	elsewhere := strings.HasPrefix(f.URI, "https://") || strings.HasPrefix(f.URI, "http://")
	if !elsewhere || strings.Contains(f.URI, ".googleapis.com/") || f.MimeType != "" && !strings.HasPrefix(f.MimeType, "image/") {
		return chatPart{}, notTranslated("contents", fmt.Sprintf("'fileData' of type %q at %q", shown(f.MimeType), shown(f.URI)))
	}
	return imagePart(f.URI), nil
}
