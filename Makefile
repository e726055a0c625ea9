# One line of help per target stands behind its ## sign.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
STAMP := .venv/installed
MEMBERS := spi topics adapters testkit services
TARGETS ?= # images to build; empty builds all of deploy/Dockerfile

.PHONY: help setup java postgres demo test test-fast test-faults check fmt up down status topics run \
  dlq-list dlq-show dlq-reprocess dlq-purge bench build images lock schemas clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## Install uv, the pinned packages and the five distributions into .venv

$(STAMP): requirements.lock scripts/setup $(MEMBERS:%=%/pyproject.toml)
	@scripts/setup

java: $(STAMP)
	@scripts/ensure-java

postgres:
	@scripts/ensure-postgres

demo: java ## Publish, persist and count real agent activity; STAY=1 keeps it up, JSON=FILE, ARGS="..."
	@$(BIN)/spile demo $(if $(STAY),--stay) $(if $(JSON),--json $(JSON)) $(ARGS)

test: java postgres ## Run all tests on a real broker; ARGS="-k name" chooses
	@$(PYTEST) -m "not go" $(ARGS)

test-fast: $(STAMP) ## Run the tests that need no broker
	@$(PYTEST) -m "not kafka and not faults and not go" $(ARGS)

test-faults: java postgres ## Run the fault matrix, write docs/faults.md; ONLY=F5,F6 SEEDS=1 KEEP=1 (old results too)
	@if [ -z "$(ONLY)" ] && command -v go >/dev/null; then $(PYTEST) -m go; fi
	@ONLY="$(ONLY)" SEEDS="$(SEEDS)" KEEP="$(KEEP)" JOBS="$(JOBS)" LIMIT="$(LIMIT)" $(BIN)/python -m tests.faults.matrix

check: $(STAMP) ## Check format, lint, types, architecture and contracts
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/spile spi check
	$(BIN)/spile schemas check
	$(BIN)/mypy

schemas: $(STAMP) ## Write the schemas that the models make into schemas/
	@$(BIN)/spile schemas generate

fmt: $(STAMP) ## Format the code and repair what ruff can
	$(BIN)/ruff format --quiet .
	$(BIN)/ruff check --fix --quiet .

up: java ## Start a Kafka that stays; ARGS="--brokers 3"
	@$(BIN)/spile up $(ARGS)

down: $(STAMP) ## End the Kafka that `up` started; its data stay
	@$(BIN)/spile down $(ARGS)

status: $(STAMP) ## Say whether that Kafka runs
	@$(BIN)/spile status

topics: $(STAMP) ## Make the cluster's topics those of the catalogue; PLAN=1 only prints
	@$(BIN)/spile topics $(if $(PLAN),plan,apply) $(ARGS)

run: $(STAMP) ## Run a worker: S=persistence
	@$(BIN)/spile run $(or $(S),$(error which worker? make run S=persistence)) $(ARGS)

dlq-list: $(STAMP) ## List dead letters of TOPIC=, or the queues that hold some
	@$(BIN)/spile dlq list $(TOPIC) $(ARGS)

dlq-show: $(STAMP) ## Show one dead letter: TOPIC= ID=0:12
	@$(BIN)/spile dlq show $(or $(TOPIC),$(error give TOPIC=)) $(or $(ID),$(error give ID=)) $(ARGS)

dlq-reprocess: $(STAMP) ## Send dead letters back: TOPIC=, one by ID=; ARGS=--dry-run
	@$(BIN)/spile dlq reprocess $(or $(TOPIC),$(error give TOPIC=)) $(if $(ID),--id $(ID)) $(ARGS)

dlq-purge: $(STAMP) ## Purge dead letters, a copy is kept: TOPIC=, one by ID=; asks
	@$(BIN)/spile dlq purge $(or $(TOPIC),$(error give TOPIC=)) $(if $(ID),--id $(ID)) $(ARGS)

bench: java ## Measure against the raw clients; writes bench/results/latest.json
	@$(BIN)/python -m bench $(ARGS)

build: $(STAMP) ## Build wheels and source archives of all five into dist/
	@rm -rf dist
	@"$$(scripts/find-uv)" build --quiet --all-packages --out-dir dist
	@ls dist

images: ## Build the container images; TARGETS="persistence" chooses
	@scripts/build-images $(TARGETS)

lock: $(STAMP) ## Pin the newest versions that fit, in requirements.lock
	@scripts/lock

clean: ## Delete what was made here, except the cache of uv
	@rm -rf .venv dist build .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path './.cache/*' -prune -exec rm -rf {} +
