# Everything a newcomer needs: `make demo` shows it, `make test` proves it.
# The ClickHouse engine is fetched once with npm into a cache outside the checkout.

GO    ?= go
SEED  ?= 0
ROUNDS ?= 20

.PHONY: help build engine demo up test short check bench sim fuzz old-clickhouse

help:              ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

build:             ## build bin/aione, bin/api, bin/ingest, bin/invoicer
	$(GO) build -o bin/ ./cmd/...

engine: build      ## fetch the ClickHouse library into the cache, if it is not there
	@bin/aione engine install >/dev/null

demo: engine       ## send a real trace through everything and prove the invoices
	bin/aione demo

up: engine         ## run everything in one process; prints URLs and a token
	bin/aione up

test: engine       ## all tests, on real NATS and ClickHouse
	$(GO) test -timeout 14m ./...

short: engine      ## the tests but the longest scenarios, fewer rounds, in about a minute
	$(GO) test -short -p 4 -timeout 5m ./...

check: build       ## formatting, vet, staticcheck, module files
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo 'not gofmt-ed:'; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) mod tidy -diff

bench: engine      ## measure, side by side with a ceiling; see docs/performance.md
	bin/aione bench

sim: engine        ## the seeded simulation of ingest: make sim SEED=42 ROUNDS=50
	$(GO) test ./analytics -run Simulation -count=1 -v -seed=$(SEED) -rounds=$(ROUNDS)

fuzz:              ## fuzz the decoder of the event log, and the translations, a minute each
	$(GO) test ./events -run NONE -fuzz FuzzEnvelope -fuzztime 60s
	$(GO) test ./gateway -run NONE -fuzz FuzzPivotedRequest -fuzztime 60s
	$(GO) test ./gateway -run NONE -fuzz FuzzPivotedAnswer -fuzztime 60s

old-clickhouse: engine  ## a ClickHouse that is too old is refused (Debian's 18.16, needs apt)
	AIONE_OLD_CLICKHOUSE="$$(scripts/old-clickhouse.sh)" $(GO) test -tags oldserver ./migrations
