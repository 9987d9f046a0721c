package events

import (
	"os"
	"regexp"
	"strconv"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// TestProtoFileMatchesTheCodec: readers in other languages trust usage.proto.
func TestProtoFileMatchesTheCodec(t *testing.T) {
	file, err := os.ReadFile("usage.proto")
	if err != nil {
		t.Fatal(err)
	}
	message := regexp.MustCompile(`(?s)message Usage \{(.*?)\n\}`).FindSubmatch(file)[1]
	fields := regexp.MustCompile(`(?m)^  (\w+) (\w+) = (\d+);`).FindAllSubmatch(message, -1)
	names := [...]string{fMinReader: "min_reader", fID: "id", fOperationID: "operation_id", fOrgID: "org_id", fTeamID: "team_id",
		fKeyID: "key_id", fModel: "model", fProvider: "provider", fPriceVersion: "price_version", fCurrency: "currency",
		fOccurredAtMS: "occurred_at_ms", fTimeAssigned: "time_assigned", fInput: "input", fCacheRead: "cache_read",
		fCacheWrite5m: "cache_write_5m", fCacheWrite1h: "cache_write_1h", fOutput: "output", fReasoning: "reasoning",
		fImages: "images", fCostE12: "cost_e12", fOutcome: "outcome", fSource: "source", fHTTPStatus: "http_status",
		fLatencyMS: "latency_ms", fTTFTMS: "ttft_ms", fStream: "stream", fSandbox: "sandbox", fProducer: "producer", fExternalID: "external_id",
		fRetried: "retried"}
	if len(fields) != len(names)-1 {
		t.Fatalf("usage.proto has %d fields, the codec %d", len(fields), len(names)-1)
	}
	types := map[string]protowire.Type{"bytes": protowire.BytesType, "string": protowire.BytesType, "uint32": protowire.VarintType,
		"uint64": protowire.VarintType, "bool": protowire.VarintType, "Outcome": protowire.VarintType, "Source": protowire.VarintType}
	for i, f := range fields {
		number := i + 1
		if typ, ok := types[string(f[1])]; !ok || string(f[2]) != names[number] || string(f[3]) != strconv.Itoa(number) || typ != wireTypes[number] {
			t.Errorf("field %d of the codec is %s of wire type %d, usage.proto has %q", number, names[number], wireTypes[number], f[0])
		}
	}
}
