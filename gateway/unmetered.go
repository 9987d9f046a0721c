package gateway

import (
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// unmetered: what a provider runs, keeps or sells beside the tokens is refused
// before anything is recorded. Searches and containers have prices of their own,
// loops of them read more than the request holds, a cache that is named holds
// tokens nobody here has seen, and another tier has other prices than the
// catalog's: a claim could be exceeded, and the bill not proven.

// notMetered refuses a member of a request.
func notMetered(param, what, why string) *apiError {
	return badRequest("not_metered", param, "%s is not supported in '%s': %s, so it could cost more than was reserved, and its bill could not be proven.", what, param, why)
}

// Why something is not metered.
const (
	whyBeside = "the provider bills its use outside of the tokens that are metered here"
	whyUnseen = "its tokens are not in the request"
	whyPriced = "it has other prices than those of the catalog"
)

// isSet reports whether a value says anything: null, false and what is empty do not.
func isSet(raw jsontext.Value) bool {
	switch string(raw) {
	case "null", "false", `""`, "[]", "{}":
		return false
	}
	return true
}

// oneOf refuses a value that is none of some words, in any case; not set is well.
func oneOf(raw jsontext.Value, param, why string, words ...string) *apiError {
	if !isSet(raw) {
		return nil
	}
	var s string
	if raw.Kind() == '"' {
		_ = json.Unmarshal(raw, &s) // its body has been decoded before
	}
	for _, w := range words {
		if strings.EqualFold(s, w) {
			return nil
		}
	}
	return notMetered(param, fmt.Sprintf("The value %q", shown(orString(s, string(raw)))), why)
}

func orString(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// openAIUnmetered looks at a member of a request that is not looked at otherwise:
// OpenAI's own, and what others who speak its dialect have added.
func openAIUnmetered(name string, raw jsontext.Value) *apiError {
	switch name {
	case "web_search_options", "search_parameters", "enable_search", "plugins": // OpenAI's, xAI's, Alibaba's, OpenRouter's
		if isSet(raw) || name == "web_search_options" && raw.Kind() == '{' { // there an empty one searches
			return notMetered(name, "A search that the provider runs", whyBeside)
		}
	case "service_tier":
		return oneOf(raw, name, whyPriced, "auto", "default", "standard")
	case "extra_body": // Google's: its own members among OpenAI's
		var extra struct {
			Google struct {
				CachedContent jsontext.Value `json:"cached_content"`
			} `json:"google"`
		}
		if err := json.Unmarshal(raw, &extra); err == nil && len(extra.Google.CachedContent) > 0 && isSet(extra.Google.CachedContent) {
			return notMetered("extra_body.google.cached_content", "A cache of the provider's", whyUnseen)
		}
	}
	return nil
}

// anthropicUnmetered is openAIUnmetered for Anthropic's members.
func anthropicUnmetered(name string, raw jsontext.Value) *apiError {
	switch name {
	case "mcp_servers":
		if isSet(raw) {
			return notMetered(name, "A server that the provider calls", whyBeside)
		}
	case "container":
		if isSet(raw) {
			return notMetered(name, "A container that the provider runs", whyBeside)
		}
	case "service_tier":
		return oneOf(raw, name, whyPriced, "auto", "standard_only")
	case "speed":
		return oneOf(raw, name, whyPriced, "standard")
	case "inference_geo":
		return oneOf(raw, name, whyPriced, "global")
	case "context_management":
		return noCompaction(raw)
	}
	return nil
}

// noCompaction refuses summaries that the provider makes of a long prompt: the
// usage of an answer leaves their tokens out. Other edits only clear.
func noCompaction(raw jsontext.Value) *apiError {
	var c struct {
		Edits []struct {
			Type string `json:"type"`
		} `json:"edits"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return badRequest("invalid_type", "context_management", "'context_management' must be an object with a list of edits.")
	}
	for _, e := range c.Edits {
		if !strings.HasPrefix(e.Type, "clear_") {
			return notMetered("context_management", fmt.Sprintf("An edit of type %q", shown(e.Type)), whyBeside)
		}
	}
	return nil
}

// geminiUnmetered is openAIUnmetered for Gemini's members.
func geminiUnmetered(name string, raw jsontext.Value) *apiError {
	switch name {
	case "cachedContent", "cached_content":
		if isSet(raw) {
			return notMetered(name, "A cache of the provider's", whyUnseen)
		}
	case "serviceTier", "service_tier":
		return oneOf(raw, name, whyPriced, "standard", "unspecified", "service_tier_standard", "service_tier_unspecified")
	}
	return nil
}

// openAITool and anthropicTool accept tools that the client's side runs, by type.
func openAITool(typ string) bool { return typ == "" || typ == "function" || typ == "custom" }

func anthropicTool(typ string) bool {
	if typ == "" || typ == "custom" {
		return true
	}
	for _, own := range []string{"bash_", "text_editor_", "computer_", "memory_"} {
		if strings.HasPrefix(typ, own) {
			return true
		}
	}
	return false
}

// toolsOfType refuses tools whose type is not accepted. What is no list of objects
// is left to the provider.
func toolsOfType(raw jsontext.Value, accepted func(typ string) bool) (bad *apiError) {
	each(raw, func(tool jsontext.Value) {
		var t struct {
			Type any `json:"type"`
		}
		if err := json.Unmarshal(tool, &t); err != nil || t.Type == nil {
			return
		}
		typ, isText := t.Type.(string)
		if !isText || !accepted(typ) {
			bad = first(bad, notMetered("tools", fmt.Sprintf("A tool of type %q, which the provider runs itself,", shown(typ)), whyBeside))
		}
	})
	return bad
}

// geminiTools refuses tools that are not the client's. One tool object may hold
// several, each under its name.
func geminiTools(raw jsontext.Value) (bad *apiError) {
	each(raw, func(tool jsontext.Value) {
		if tool.Kind() != '{' {
			return
		}
		_, _ = eachMember(tool, 0, func(name string, at span) { // its body has been decoded before
			switch name {
			case "functionDeclarations", "function_declarations", "computerUse", "computer_use":
			default:
				if value := tool[at.from:at.to]; value.Kind() != 'n' { // an empty one is set
					bad = first(bad, notMetered("tools", fmt.Sprintf("The tool %q, which the provider runs itself,", shown(name)), whyBeside))
				}
			}
		})
	})
	return bad
}

// each calls f for every element of a list, or for what is no list.
func each(raw jsontext.Value, f func(jsontext.Value)) {
	var list []jsontext.Value
	if err := json.Unmarshal(raw, &list); err != nil {
		list = []jsontext.Value{raw}
	}
	for _, v := range list {
		f(v)
	}
}
