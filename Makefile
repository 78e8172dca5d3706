# Veil. `make demo` shows the whole thing on this machine; `make test` proves it.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= $(shell command -v python3.12 >/dev/null 2>&1 && python3.12 -c '' 2>/dev/null && echo python3.12 || (command -v python3.11 >/dev/null 2>&1 && echo python3.11 || echo python3))
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

# ------------------------------------------------------------------ set-up
.PHONY: setup
setup: .setup/debian .setup/venv .setup/npm ## install what is missing (Debian packages, npm packages, .venv)

.setup:
	@mkdir -p $@

.setup/debian: packaging/debian.txt packaging/install-debian | .setup
	@SUDO="$(SUDO)" packaging/install-debian packaging/debian.txt
	@touch $@

.setup/venv: requirements.txt pyproject.toml | .setup .setup/debian
	@echo "==> Python environment in $(VENV)"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.setup/npm: contracts/package.json contracts/package-lock.json | .setup
	@echo "==> npm packages (solc, OpenZeppelin, anvil, forge) in contracts/node_modules"
	@cd contracts && npm install --no-save --ignore-scripts --no-fund --no-audit --loglevel=error
	@touch $@

# ------------------------------------------------------------------ seeing it
DEV_DIR ?= $(HOME)/.veil/dev
RUNTIME ?= containerd

.PHONY: demo
demo: setup ## a 3-node cluster on this machine, a workload placed under encryption, and what happened
	@PATH="$(CURDIR)/$(BIN):$$PATH" packaging/demo --dir "$(DEV_DIR)" --runtime "$(RUNTIME)"

# ------------------------------------------------------------------ proving it
PYTEST := $(BIN)/python -m pytest -q

.PHONY: test lint unit integration e2e
test: setup lint unit integration e2e ## every test but the slow proofs

lint: setup ## ruff, mypy strict, the layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

unit: setup ## no process, no socket, no sleep
	@$(PYTEST) -n logical --dist worksteal tests/unit

# Real parts race with each other on a busy machine. What fails is run once more on its own; it stays in the output to be looked
# into, and fails for good if it fails again. Each part has a process of its own: native libraries of one (Concrete's threads) do
# not meet another's, and a process that crashes costs its part alone. Parts that mostly wait (for back-off, for blocks) or
# compute on one thread half of the time (ceremonies, simulated circuits) have several.
PARTS := $(filter-out __pycache__,$(notdir $(patsubst %/,%,$(wildcard tests/integration/*/))))
integration: setup ## each part against the real thing: anvil, libp2p, Concrete, containerd, kubectl
	@for part in $(PARTS); do echo "==> $$part"; case $$part in agent|chain) several="-n 3 --dist worksteal" ;; \
		fhe) several="-n 2 --dist loadfile" ;; *) several= ;; esac; \
		$(PYTEST) $$several tests/integration/$$part || { echo "==> once more, what failed of $$part"; \
		$(PYTEST) --last-failed --last-failed-no-failures all tests/integration/$$part; }; done

FORGE := node_modules/@foundry-rs/forge-linux-amd64/bin
.PHONY: test-contracts
test-contracts: setup .setup/slither ## fuzz and invariants (forge), the storage layout, slither: offline once set up (ten minutes)
	@cd contracts && node layout.js
	@cd contracts && $(FORGE)/forge test
	@cd contracts && PATH="$$PWD/$(FORGE):$(CURDIR)/.slither/bin:$$PATH" slither . --config-file slither.json

# Without three detectors: dates here are days apart, assembly is a slot and a log, and an immutable is written as a constant is.
# An environment of its own: slither needs a web3 before 8.
.setup/slither: contracts/slither.txt | .setup
	@echo "==> slither in .slither"
	@[ -x .slither/bin/python ] || $(PYTHON) -m venv .slither
	@.slither/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r contracts/slither.txt
	@touch $@

# dockerd is taken out of its package and run by the tests alone: nothing is installed, no service of the machine is touched.
.PHONY: test-docker
test-docker: setup .setup/dockerd ## the docker runtime against a dockerd of its own, or VEIL_DOCKER_SOCKET (fetches Debian's docker.io, 36 MB; root)
	@VEIL_TEST_DOCKERD="$(CURDIR)/.setup/dockerd/usr/sbin" $(PYTEST) tests/integration/runtime -k docker

.setup/dockerd: | .setup
	@echo "==> dockerd in $@"
	@if command -v dockerd >/dev/null; then mkdir -p $@; else cd .setup && rm -f docker.io_*.deb && apt-get download -qq docker.io && \
		dpkg -x docker.io_*.deb dockerd.new && rm docker.io_*.deb && mv dockerd.new dockerd; fi

.PHONY: soak-fhe
soak-fhe: setup ## every circuit 30 times on real ciphertexts, every malformed digit (half an hour)
	@SOAK_FHE_CASES=30 nice $(PYTEST) -s tests/integration/fhe/test_fhe_sizes.py tests/integration/fhe/test_fhe_malformed.py \
		tests/integration/fhe/test_fhe_flooded.py

.PHONY: soak-chain
soak-chain: setup ## the reader of the chain under reorgs of every depth, pauses and bad endpoints, against a fresh replay (30 seeds)
	@STORM_SEEDS=$${STORM_SEEDS:-$$(seq -s, 30)} $(PYTEST) -s tests/integration/chain/test_chain_storms.py

.PHONY: soak-rounds
soak-rounds: setup ## thousands of histories of placement rounds, in virtual time (half an hour; SEED= replays, HISTORIES= fewer)
	@seed=$${SEED:-$$RANDOM$$RANDOM}; echo "SEED=$$seed"; VEIL_SIM_SEED=$$seed VEIL_SIM_HISTORIES=$${HISTORIES:-3000} nice $(PYTEST) -s \
		tests/unit/placement/test_placement_simulated.py tests/unit/placement/test_placement_liars.py

.PHONY: test-interop
test-interop: setup .setup/interop ## js-libp2p (Node 22, from npm) joins, pings and asks, both ways
	@$(PYTEST) tests/interop

.setup/interop: tests/interop/package.json tests/interop/package-lock.json | .setup
	@cd tests/interop && npm install --no-save --ignore-scripts --no-fund --no-audit --loglevel=error
	@touch $@

.PHONY: bench-mesh soak-mesh
bench-mesh: setup ## who is alive, 30 nodes beside 30 agents of HashiCorp's serf (ten minutes; root)
	@command -v serf >/dev/null || DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends serf >/dev/null
	@$(SUDO) $(CURDIR)/$(BIN)/python -m bench.mesh --nodes 30 --beside serf

SOAK_MESH_MINUTES ?= 60
SOAK_MESH_LOSS ?= 10
soak-mesh: setup ## 10 nodes for an hour at 10 % packet loss; reports false deaths and leaks (root)
	@$(SUDO) unshare --net $(CURDIR)/$(BIN)/python -m bench.mesh_soak --minutes $(SOAK_MESH_MINUTES) --loss $(SOAK_MESH_LOSS)

.PHONY: soak-runtime
soak-runtime: setup ## 500 instances wanted at random for 5 minutes while everything under them is killed; all orders of kills
	@SOAK_RUNTIME_S=300 SOAK_RUNTIME_INSTANCES=500 SOAK_RUNTIME_ORDERS=24 nice $(PYTEST) -s \
		tests/integration/agent/test_agent_soak.py tests/integration/agent/test_agent_kill_orders.py

e2e: setup ## a whole cluster
	@$(PYTEST) tests/e2e || { echo "==> once more, what failed"; $(PYTEST) --last-failed --last-failed-no-failures none tests/e2e; }

# ------------------------------------------------------------------ building it
.PHONY: contracts format
contracts: setup ## compile the contracts and write their reference; both are committed and reproducible
	@cd contracts && node build.js
	@$(BIN)/python contracts/reference.py

format: setup ## put the sources into the house's shape
	@$(BIN)/ruff check --fix -q . ; $(BIN)/ruff format -q .
