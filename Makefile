# Bare "make" lists the targets.
GO      ?= go
GOFLAGS ?= -buildvcs=false
export GOFLAGS
FUZZTIME ?= 20s
VERSITYGW = v1.8.0
STATICCHECK = 2026.1

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9.\/-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## bin/zerofs
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/zerofs ./cmd/zerofs

test: ## all tests that need no set-up
	CGO_ENABLED=0 $(GO) test ./...

race: ## all tests under the race detector (needs gcc)
	CGO_ENABLED=1 $(GO) test -race ./...

lint: ## gofmt, go vet, staticcheck, and that other systems still build
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	CGO_ENABLED=0 $(GO) vet ./...
	CGO_ENABLED=0 $(GO) run honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK) ./...
	GOOS=darwin CGO_ENABLED=0 $(GO) build ./...
	GOOS=freebsd CGO_ENABLED=0 $(GO) build ./...

fuzz: ## every fuzzer for FUZZTIME (default 20s) each
	@GO="$(GO)" FUZZTIME="$(FUZZTIME)" test/fuzz.sh

golden: ## rewrite the golden files of all formats; review the diff
	CGO_ENABLED=0 $(GO) test ./... -run Golden -update

bin/versitygw: ## the S3 server that tests run against
	GOBIN=$(CURDIR)/bin CGO_ENABLED=0 $(GO) install github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW)

.PHONY: help build test race lint fuzz golden
