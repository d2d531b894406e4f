# Everything a developer does with this project. `make` alone explains.

GO         ?= go
FUZZTIME   ?= 10s
BENCH      ?= .
BENCHTIME  ?= 1s
E2E_HOSTS  ?= 1000
TEST_FLAGS ?=
# Whose tests take longest are begun first; begun last, they would run alone.
LONGEST    := ./test/e2e ./cmd/mgmt-remote ./internal/engine ./internal/shim

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null)
DATE    := $(shell TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null)
STAMPS  := -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(DATE)
TIMED   := tools/timed.sh

# The platforms a host may have. The shim of each is embedded into mgmt-remote.
SHIM_PLATFORMS := linux-amd64 linux-arm64 linux-arm linux-386 darwin-amd64 darwin-arm64 freebsd-amd64
SHIMS          := $(SHIM_PLATFORMS:%=internal/shimbin/bin/shim-%.gz)
# The same for the engine, which graph payloads run. It is larger: hosts of other platforms are served from files beside mgmt-remote, or
# `make build ENGINE_PLATFORMS="linux-amd64 linux-arm64"` embeds more.
ENGINE_PLATFORMS ?= linux-$(shell $(GO) env GOARCH)
ENGINES          := $(ENGINE_PLATFORMS:%=internal/shimbin/bin/engine-%.gz)
# What is published serves all that Linux runs on, from one file.
DIST_ENGINES := linux-amd64 linux-arm64 linux-arm
DIST_CHECK   ?= tools/checkdist.sh
HOST_PROGRAM   := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false

.PHONY: help
help: ## this text (the default)
	@echo 'make TARGET, with one of'
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## /{printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo 'with variables FUZZTIME=$(FUZZTIME) BENCH=$(BENCH) BENCHTIME=$(BENCHTIME) E2E_HOSTS=$(E2E_HOSTS) TEST_FLAGS="-run …"'

.PHONY: build
build: shims engines ## bin/mgmt-remote, with shims and engine inside
	$(HOST_PROGRAM) -ldflags '-s -w $(STAMPS)' -o bin/mgmt-remote ./cmd/mgmt-remote

.PHONY: test
test: ## everything that must hold: deps, build, lint, all tests with the race detector, chaos
	@$(TIMED) deps  $(MAKE) --no-print-directory deps
	@$(TIMED) build $(MAKE) --no-print-directory build
	@$(TIMED) lint  $(MAKE) --no-print-directory lint
	@$(TIMED) tests $(GO) test -race -count=1 -p 3 -timeout 12m -skip '^TestChaos' $(TEST_FLAGS) $(LONGEST) ./...
	@$(TIMED) chaos $(MAKE) --no-print-directory chaos

.PHONY: demo
demo: build ## a whole fleet in one process: no sshd, no root
	bin/mgmt-remote demo

.PHONY: lint
lint: ## gofmt, go vet and the linters of .golangci.yml, pinned in tools/go.mod
	$(GO) tool -modfile=tools/go.mod golangci-lint run ./...

.PHONY: e2e
e2e: deps build ## the end-to-end tests alone, telling what they do, with E2E_HOSTS simulated hosts
	MGMT_REMOTE_E2E_HOSTS=$(E2E_HOSTS) $(GO) test -v -count=1 -timeout 30m $(TEST_FLAGS) ./test/e2e/...

.PHONY: chaos
chaos: deps build ## broken links, dead servers, rebooted hosts, a stopped or killed initiator: what payloads must not notice; mostly waits
	$(GO) test -C test/e2e -count=1 -timeout 10m -parallel 16 -run '^TestChaos' $(TEST_FLAGS)

.PHONY: bench
bench: build ## all benchmarks; those beside other programs want clustershell and pssh installed
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem ./...

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME
	tools/fuzz.sh $(FUZZTIME)

.PHONY: tour
tour: deps build ## records docs/tour.svg: a real terminal, simulated hosts; Linux only
	$(GO) run ./test/tour --program bin/mgmt-remote --output docs/tour.svg

.PHONY: deps
deps: ## installs what the tests need (Debian, as root); does nothing when all is there
	@tools/deps.sh

.PHONY: dist
dist: ## archives, .deb and .rpm for all platforms in dist/, checked (DIST_CHECK=true: unchecked)
	rm -f internal/shimbin/bin/engine-*.gz
	@$(MAKE) --no-print-directory build ENGINE_PLATFORMS="$(DIST_ENGINES)"
	@$(TIMED) dist tools/dist.sh "$(VERSION)" "-s -w $(STAMPS)"
	@$(TIMED) check $(DIST_CHECK)

.PHONY: clean
clean: ## removes everything that was built
	rm -rf bin dist
	rm -f internal/shimbin/bin/*.gz

# Without version control stamps, and with no version of its own: a shim that did not change keeps its hash, and hosts that have it in their
# cache are not sent it again. GOARM=6 runs on ARMv6 and everything after it.
.PHONY: shims engines FORCE
shims: $(SHIMS)
engines: $(ENGINES)

.PRECIOUS: bin/shims/% bin/engines/%
bin/engines/%: FORCE
	@GOOS=$(word 1,$(subst -, ,$*)) GOARCH=$(word 2,$(subst -, ,$*)) GOARM=6 \
	$(HOST_PROGRAM) -tags engine -ldflags '-s -w' -o $@ ./cmd/mgmt-remote

internal/shimbin/bin/engine-%.gz: bin/engines/%
	@if ! gzip -dc $@ 2>/dev/null | cmp -s - $<; then \
		echo "engine $*"; gzip -n -9 <$< >$@.tmp && mv $@.tmp $@; fi

bin/shims/%: FORCE
	@GOOS=$(word 1,$(subst -, ,$*)) GOARCH=$(word 2,$(subst -, ,$*)) GOARM=6 \
	$(HOST_PROGRAM) -ldflags '-s -w' -o $@ ./cmd/mgmt-remote-shim

internal/shimbin/bin/shim-%.gz: bin/shims/%
	@if ! gzip -dc $@ 2>/dev/null | cmp -s - $<; then \
		echo "shim $*"; gzip -n -9 <$< >$@.tmp && mv $@.tmp $@; fi
