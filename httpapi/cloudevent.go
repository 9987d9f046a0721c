package httpapi

// cloudEvent is an event as the document describes it. Requests are read by
// intake instead, which rejects events one by one and does not allocate for them.
type cloudEvent struct {
	_               struct{}  `additionalProperties:"true"`
	SpecVersion     string    `json:"specversion" enum:"1.0"`
	Type            string    `json:"type" enum:"ai.usage"`
	Source          string    `json:"source" minLength:"1" maxLength:"512" doc:"Who reports, such as //gateway.eu-1/pod-7." example:"//gateway.eu-1/pod-7"`
	ID              string    `json:"id" minLength:"1" maxLength:"512" doc:"Unique in its source." example:"req-000001"`
	Time            string    `json:"time,omitempty" format:"date-time" doc:"When the usage occurred. Default: when it is received."`
	DataContentType string    `json:"datacontenttype,omitempty" enum:"application/json,application/json; charset=utf-8"`
	Data            usageData `json:"data"`
}

// usageData is what intake.data reads.
type usageData struct {
	Model              string `json:"model" doc:"A standard id or an alias." example:"gpt-4o"`
	InputTokens        uint64 `json:"input_tokens,omitempty" maximum:"1099511627776" doc:"Prompt tokens neither read from nor written to a cache." example:"1000"`
	CacheReadTokens    uint64 `json:"cache_read_tokens,omitempty" maximum:"1099511627776" doc:"Prompt tokens served from a cache."`
	CacheWrite5mTokens uint64 `json:"cache_write_5m_tokens,omitempty" maximum:"1099511627776" doc:"Prompt tokens written to a cache kept for 5 minutes."`
	CacheWrite1hTokens uint64 `json:"cache_write_1h_tokens,omitempty" maximum:"1099511627776" doc:"Prompt tokens written to a cache kept for 1 hour."`
	OutputTokens       uint64 `json:"output_tokens,omitempty" maximum:"1099511627776" doc:"Completion tokens without reasoning." example:"500"`
	ReasoningTokens    uint64 `json:"reasoning_tokens,omitempty" maximum:"1099511627776" doc:"Completion tokens spent on reasoning."`
	Images             uint64 `json:"images,omitempty" maximum:"1048576" doc:"Images made."`
	TeamID             string `json:"team_id,omitempty" format:"uuid" doc:"Default: the token's team."`
	KeyID              string `json:"key_id,omitempty" format:"uuid"`
	Provider           string `json:"provider,omitempty" maxLength:"512" doc:"Default: the model's."`
	Outcome            string `json:"outcome,omitempty" enum:"completed,cancelled,upstream_error,timeout,abandoned" doc:"Default: completed."`
	LatencyMS          uint64 `json:"latency_ms,omitempty" maximum:"4294967295" doc:"Request received to last byte."`
}

const eventExample = `[{"specversion":"1.0","type":"ai.usage","source":"//gateway.eu-1","id":"req-000001",` +
	`"data":{"model":"gpt-4o","input_tokens":1000,"output_tokens":500}}]`
