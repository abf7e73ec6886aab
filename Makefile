# Everything one does with this repository. Logic of more than three lines
# lives in scripts/.

CONFIG ?= avoqado-edge.yaml
ARGS   ?=

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/avoqado-edge for this machine (VERSION=1.2.3 is what it says of itself)
	scripts/cross-build --here

.PHONY: run
run: build ## Run the box with CONFIG=file (default avoqado-edge.yaml; make one with: bin/avoqado-edge config init)
	bin/avoqado-edge run --config $(CONFIG) $(ARGS)

.PHONY: dev
dev: ## Run a whole venue on this machine: box, broker, back-end stand-in, clients (ARGS="--outage 30s")
	go run ./cmd/avoqado-edge dev $(ARGS)

.PHONY: setup
setup: ## Install what the tests need and this machine lacks (brokers, JDK, npm client)
	scripts/setup

.PHONY: test
test: ## Run all tests, with real brokers and clients; sets the machine up first
	scripts/setup --browser && go test -p 4 -parallel 8 -timeout 20m ./...
	AVOQADO_LAN_TRANSPORT=library go test -short -timeout 5m ./internal/lan

.PHONY: test-race
test-race: ## Run the tests under the race detector, without the slow ones
	scripts/setup --race --browser && CGO_ENABLED=1 go test -race -short -p 4 -parallel 8 -timeout 20m ./...

.PHONY: cover
cover: ## Run the quick tests and show what they cover (coverage.html)
	go test -short -coverpkg=./... -coverprofile=coverage.out ./...
	go tool cover -html=coverage.out -o coverage.html
	go tool cover -func=coverage.out | tail -n 1

.PHONY: torture
torture: ## Run the long proofs with COUNT=n (default 100) and end with a table; as root for power cuts and full disks
	AVOQADO_TORTURE=$(or $(COUNT),100) scripts/torture

.PHONY: bench
bench: ## Measure the journal beside its peers on this disk (ARGS="-quick"; about five minutes)
	cd scripts/bench && go build -trimpath -o ../../bin/bench . && cd ../.. && bin/bench -dir bin $(ARGS)

# Node's parts, built again when their pins change; SQLite takes a minute.
peer = scripts/benchlan/node
$(peer)/node_modules/.package-lock.json: $(peer)/package.json $(peer)/package-lock.json
	npm --prefix $(peer) ci --silent --foreground-scripts=false && touch $@

.PHONY: bench-lan
bench-lan: build $(peer)/node_modules/.package-lock.json ## Measure the LAN beside Node and socket.io (ARGS="-quick"; about fifteen minutes)
	go build -trimpath -o bin/bench-lan ./scripts/benchlan && bin/bench-lan -dir bin $(ARGS)

.PHONY: bench-uplink
bench-uplink: build ## Measure how a backlog drains beside a Mosquitto bridge (ARGS="-quick", "-big"; about twenty minutes)
	go build -trimpath -o bin/bench-uplink ./scripts/benchuplink && bin/bench-uplink -dir bin $(ARGS)

.PHONY: bench-discover
bench-discover: build ## Measure how long a terminal looks for its box on many networks; as root (ARGS="-quick"; about fifteen minutes)
	go build -trimpath -o bin/bench-discover ./scripts/benchdiscover && bin/bench-discover -dir bin $(ARGS)

.PHONY: bench-go
bench-go: ## Run the benchmarks in the packages (BENCH=pattern)
	go test -run '^$$' -bench '$(or $(BENCH),.)' -benchmem ./...

.PHONY: mutants
mutants: ## Break the journal and the guards in one place at a time: some test must notice each (ARGS="-run ^lease:")
	go run ./scripts/mutants $(ARGS)

.PHONY: fmt
fmt: ## Format the code and sort its imports
	scripts/lint fmt

.PHONY: vet
vet: ## Run go vet
	go vet ./...

.PHONY: lint
lint: ## Check format, style, arrows and library walls; what CI runs
	scripts/lint run

.PHONY: vuln
vuln: ## Look for known vulnerabilities; needs the Go vulnerability database, which CI cannot reach
	go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

.PHONY: cross
cross: vet-arm vet-other ## Build for every machine into dist/: Linux on arm 6, arm 7, arm64, amd64; Windows, macOS
	scripts/cross-build

# The binary is not all there is: tests and tools must compile where an int has
# 32 bits, too.
.PHONY: vet-arm
vet-arm:
	GOOS=linux GOARCH=arm CGO_ENABLED=0 go vet ./...

.PHONY: vet-other
vet-other:
	scripts/vet-other windows/amd64 && scripts/vet-other darwin/arm64

.PHONY: deb
deb: ## Build the .deb for amd64, arm64 and armhf (every Raspberry Pi) into dist/
	scripts/package deb

.PHONY: dist
dist: ## Build a release into dist/: all packages, what they are made of, SHA256SUMS; signed with SIGN_KEY=key.pem
	scripts/dist

.PHONY: dist-verify
dist-verify: ## Build the programs twice, in two folders and with two caches: the bytes must be the same
	scripts/dist --verify

.PHONY: footprint
footprint: ## Measure memory and processor time with 20 terminals, and the size of the programs
	scripts/footprint

.PHONY: test-packages
test-packages: ## Install, upgrade, break and remove the .deb under a real systemd, Debian 12 and 13; as root
	scripts/setup --packages && scripts/test-packages

.PHONY: check
check: ## Run all that CI runs
	.ci/run

.PHONY: clean
clean: ## Remove what make built; go's own cache stays
	rm -rf bin dist .tools coverage.out coverage.html
	rm -rf internal/boxtest/clients/java/target internal/boxtest/clients/js/node_modules internal/boxtest/clients/browser/node_modules internal/boxtest/shots internal/boxtest/clients/asyncapi/node_modules internal/spec/examples/node_modules internal/spec/examples/kotlin/target $(peer)/node_modules
