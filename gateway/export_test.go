package gateway

// CountTokens is how tests know what an estimate counts.
func CountTokens(text string) uint64 { return countTokens([]byte(text), 1<<62) }

// DialControl is what every connection to an upstream is asked before it is made.
var DialControl = noMetadata
