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
