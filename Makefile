# `make help` lists the targets. Each sets itself up: a pinned .venv is made when needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export TOKENIZERS_PARALLELISM := false
export HF_HUB_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-gpu lint format bench goldens nano clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,pretrain]'
	@touch $@

demo: $(STAMP) ## train and score the quickstart grid (no network, no GPU, minutes)
	$(BIN)/xling run quickstart

lint: $(STAMP) ## style, types and architecture contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint ## everything that must hold, in minutes, without network
	$(BIN)/pytest -m "not slow and not gpu" -n 2 --dist worksteal

test-slow: $(STAMP) ## tests that take long
	$(BIN)/pytest -m slow

test-gpu: $(STAMP) ## tests that need a CUDA device
	$(BIN)/pytest -m gpu

bench: $(STAMP) ## measure against what people use, into docs/benchmarks.md; ONLY=name for one line
	$(BIN)/python scripts/bench/run.py $(if $(ONLY),--only '$(ONLY)')

format: $(STAMP) ## put the code into form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

nano: $(STAMP) ## pretrain the nano backbone again (hours)
	$(BIN)/python scripts/pretrain_nano.py

goldens: $(STAMP) ## write the golden loss curves again, after a change that is meant to move them
	$(BIN)/python scripts/freeze_goldens.py

clean: ## remove what can be made again
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
