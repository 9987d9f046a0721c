package demo

import (
	"bytes"
	_ "embed"
	"encoding/csv"
	"fmt"
	"strconv"
	"time"
)

//go:embed testdata/azure-llm-conv-2023.csv
var traceCSV []byte

// Request is one row of the trace.
type Request struct {
	At         time.Time // UTC
	Prompt     uint64    // tokens
	Completion uint64    // tokens
}

// Trace reads the trace, oldest first.
func Trace() ([]Request, error) {
	records, err := csv.NewReader(bytes.NewReader(traceCSV)).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read the trace: %w", err)
	}
	var out []Request
	for i, r := range records[1:] { // the first names the columns
		at, err := time.Parse("2006-01-02 15:04:05.0000000", r[0])
		if err != nil {
			return nil, fmt.Errorf("row %d of the trace: %w", i+1, err)
		}
		prompt, err := strconv.ParseUint(r[1], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("row %d of the trace: %w", i+1, err)
		}
		completion, err := strconv.ParseUint(r[2], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("row %d of the trace: %w", i+1, err)
		}
		out = append(out, Request{At: at, Prompt: prompt, Completion: completion})
	}
	return out, nil
}
