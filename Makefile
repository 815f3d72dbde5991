# Two commands do everything on a fresh Debian 12 or Ubuntu with git, make,
# Go and root or sudo: `make demo` and `make test`.
#
#   YES=1   install missing packages without asking
#   KEEP=1  make demo: leave everything running

GOLANGCI_LINT_VERSION := v2.15.0

# How long `make soak` fuzzes each target.
FUZZTIME ?= 5m
KEEP ?=

TOOLS := $(CURDIR)/.cache/bin
LINT := $(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION)
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# A static binary, pure Go.
BUILD := CGO_ENABLED=0 go build -trimpath

.DEFAULT_GOAL := help
.PHONY: help build install build-ipsecmb build-demo demo demo-stop test check soak generate go-version packages-demo packages-test packages-check

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*##/ {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: go-version ## Build bin/gatewayd and bin/bench
	$(BUILD) -o bin/gatewayd ./gatewayd
	$(BUILD) -o bin/bench ./bench

build-ipsecmb: go-version ## The same with AES-GCM by Intel's library (libipsec-mb-dev): bin/*-ipsecmb, not static
	CGO_ENABLED=1 go build -trimpath -tags ipsecmb -o bin/gatewayd-ipsecmb ./gatewayd
	CGO_ENABLED=1 go build -trimpath -tags ipsecmb -o bin/bench-ipsecmb ./bench

install: ## Install bin/gatewayd, its units, users and shell completion (DESTDIR for packagers); nothing is started
	@[ -x bin/gatewayd ] || { echo "bin/gatewayd isn't there: make build first, without root" >&2; exit 1; }
	install -D -m 755 bin/gatewayd $(DESTDIR)/usr/bin/gatewayd
	install -d $(DESTDIR)/usr/lib/systemd/system
	install -m 644 gatewayd/dist/*.service $(DESTDIR)/usr/lib/systemd/system/
	install -D -m 644 gatewayd/dist/gatewayd.sysusers $(DESTDIR)/usr/lib/sysusers.d/gatewayd.conf
	install -d $(DESTDIR)/usr/share/bash-completion/completions
	bin/gatewayd completion bash > $(DESTDIR)/usr/share/bash-completion/completions/gatewayd
	@[ -n "$(DESTDIR)" ] || ! command -v systemd-sysusers >/dev/null || systemd-sysusers gatewayd.conf
	@[ -n "$(DESTDIR)" ] || ! [ -d /run/systemd/system ] || systemctl daemon-reload

build-demo: build
	$(BUILD) -o $(TOOLS)/demo ./integration/demo

demo: packages-demo build-demo ## A strongSwan client through a gateway on this machine, in network namespaces
	$(SUDO) $(TOOLS)/demo -gatewayd bin/gatewayd $(if $(KEEP),-keep)

demo-stop: ## End a demo that KEEP=1 left running
	$(SUDO) $(TOOLS)/demo -stop

test: packages-test build-demo ## All tests: unit with -race, namespaces as root, then a kernel with IPsec
	@$(if $(SUDO),sudo -v)
	go run ./integration/runner test

check: go-version packages-check $(LINT) ## Format, lint, go.mod, generated files
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	if [ -n "$$unformatted" ]; then echo "gofmt changes:"; echo "$$unformatted"; exit 1; fi
	$(LINT) run ./...
	go mod tidy -diff
	@before=$$(git status --porcelain; git diff --binary); \
	$(MAKE) --no-print-directory generate; \
	after=$$(git status --porcelain; git diff --binary); \
	if [ "$$before" != "$$after" ]; then echo "make generate changes:"; git status --short; exit 1; fi

generate: go-version packages-check ## Make generated files anew
	go generate ./...

soak: packages-test build-demo ## Not a gate: every fuzz target for FUZZTIME, and the scale tests
	@$(if $(SUDO),sudo -v)
	go run ./integration/runner -fuzztime $(FUZZTIME) soak

go-version:
	@integration/goversion.sh

packages-demo packages-test packages-check: packages-%:
	@integration/packages.sh $*

# go install has no way to name the file, hence a folder of its own.
$(LINT): | go-version
	GOBIN=$@.d go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv $@.d/golangci-lint $@ && rmdir $@.d
