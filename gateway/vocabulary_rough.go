//go:build !o200k

package gateway

// tokenize counts by length, in builds without the vocabulary.
func tokenize(text string) uint64 { return roughTokens(len(text)) }
