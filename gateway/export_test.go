package gateway

// CountTokens is how tests know what an estimate counts.
func CountTokens(text string) uint64 { return countTokens([]byte(text), 1<<62) }
