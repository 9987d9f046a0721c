package gateway

import (
	"fmt"
	"sync"

	"github.com/tiktoken-go/tokenizer"
)

// vocabulary is o200k_base, which is compiled in; it is unpacked at first use,
// in some 30 ms.
var vocabulary = sync.OnceValue(func() tokenizer.Codec {
	codec, err := tokenizer.Get(tokenizer.O200kBase)
	if err != nil {
		panic(fmt.Sprintf("gateway: a compiled-in vocabulary is missing: %v", err))
	}
	return codec
})

// tokenize counts the tokens of a text, at no less than a megabyte a second.
func tokenize(text string) uint64 {
	n, err := vocabulary().Count(text)
	if err != nil || n < 0 { // text that the vocabulary cannot split
		return roughTokens(len(text))
	}
	return uint64(n)
}
