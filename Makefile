# Bare "make" lists the targets.
GO      ?= go
GOFLAGS ?= -buildvcs=false
export GOFLAGS
FUZZTIME ?= 20s
BENCHDIR ?= /var/tmp
VERSITYGW = v1.8.0
STATICCHECK = v0.8.2

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9.\/-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## bin/zerofs
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/zerofs ./cmd/zerofs

test: ## all tests that need no set-up
	CGO_ENABLED=0 $(GO) test ./...

race: ## all tests under the race detector (needs gcc)
	CGO_ENABLED=1 $(GO) test -race ./...

race-short: ## the packages with concurrency of their own under the race detector, with fewer cases
	CGO_ENABLED=1 $(GO) test -race -short ./fence ./journal ./engine/... ./tiers/... ./servers ./servers/admin ./servers/nbd

crash: ## 2,000 seeds of hosts that are cut off at any operation of disk or store
	CGO_ENABLED=0 ZEROFS_CRASH_SEEDS=2000 $(GO) test ./engine/volume -run TestCrashes -count=1 -timeout 15m

sim: ## one world again: make sim SEED=17
	CGO_ENABLED=0 $(GO) test ./engine/volume -run TestCrashes -count=1 -v -args -seed $(SEED)

e2e: bin/versitygw ## the program as a process: exit statuses, takeovers, power cuts, file systems, PostgreSQL (root; tools as in .ci/run)
	CGO_ENABLED=0 ZEROFS_REQUIRE_TOOLS=1 ZEROFS_REQUIRE_VERSITYGW=1 $(GO) test ./test/e2e -count=1 -v -timeout 30m

outage: bin/versitygw ## the store is away for a full minute
	CGO_ENABLED=0 ZEROFS_OUTAGE=60s $(GO) test ./test/e2e -run TestStoreOutage -count=1 -v

powercut: ## forty power cuts on ext4 and on xfs, below journal and NVMe tier (root)
	test/lossydisk/lossydisk.sh check
	CGO_ENABLED=0 ZEROFS_POWERCUTS=40 $(GO) test ./test/e2e -run TestPowerCut -count=1 -v -timeout 60m

mount-work: ## Go's own tree unpacked and cmd/go built on a mount, beside the local disk (root)
	CGO_ENABLED=0 ZEROFS_WORK=1 $(GO) test ./test/e2e -run TestGoToolchain -count=1 -v -timeout 30m

bin/posix.test: ## a static binary of the POSIX table, for any mount: ZEROFS_POSIX_DIR=/mnt bin/posix.test
	CGO_ENABLED=0 $(GO) test -c -o bin/posix.test ./test/posix

vm-test: ## a Linux kernel's own NBD client: ext4, xfs, btrfs, discard, the server's death (root)
	CGO_ENABLED=0 $(GO) build -o bin/zerofs ./cmd/zerofs
	test/vm/vm.sh test/vm/kernel.sh

vm-test-9p: ## the kernel's 9P client: cache modes, the POSIX table, locks, the server's death (root)
	CGO_ENABLED=0 $(GO) build -o bin/zerofs ./cmd/zerofs
	$(MAKE) -B bin/posix.test
	test/vm/vm.sh -t 1200 test/vm/ninep.sh

vm-test-zfs: ## OpenZFS on two devices, and PostgreSQL on the pool; the first time it builds OpenZFS (root)
	test/vm/zfs-build.sh
	CGO_ENABLED=0 $(GO) build -o bin/zerofs ./cmd/zerofs
	test/vm/vm.sh -t 1800 -m 3072 test/vm/zfs.sh

lint: ## gofmt, go vet, staticcheck, and that other systems still build
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	CGO_ENABLED=0 $(GO) vet ./...
	CGO_ENABLED=0 $(GO) run honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK) ./...
	GOOS=darwin CGO_ENABLED=0 $(GO) build ./...
	GOOS=freebsd CGO_ENABLED=0 $(GO) build ./...

fuzz: ## every fuzzer for FUZZTIME (default 20s) each
	@GO="$(GO)" FUZZTIME="$(FUZZTIME)" test/fuzz.sh

bench: bin/versitygw ## measure speed and size: BENCH=row,row SHORT=1 BENCHDIR=/on/the/disk (benchmarks/README.md)
	CGO_ENABLED=0 $(GO) run ./benchmarks -dir $(BENCHDIR) -json bin/bench.json $(if $(BENCH),-rows $(BENCH)) $(if $(SHORT),-short)

golden: ## rewrite the golden files of all formats; review the diff
	CGO_ENABLED=0 $(GO) test ./... -run Golden -update

bin/versitygw: ## the S3 server that tests run against
	GOBIN=$(CURDIR)/bin CGO_ENABLED=0 $(GO) install github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW)

.PHONY: help build bin/posix.test test race race-short crash sim e2e outage powercut mount-work vm-test vm-test-9p vm-test-zfs lint fuzz bench golden
