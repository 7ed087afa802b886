# Two commands: `make quickstart` and `make test`. Both set up .venv first, once.

PYTHON := $(firstword $(shell command -v python3 python3.11 python3.12 2>/dev/null))
BIN := .venv/bin

# No module of the current folder shadows ours; OpenMP threads sleep at barriers instead of
# spinning, which on shared cores is the difference between 87 and 1 tokens per second.
export PYTHONSAFEPATH := 1
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT := 0

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test slow check bench clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20

setup: ## make .venv and install everything into it (does nothing when nothing changed)
	@$(if $(PYTHON),$(PYTHON) .ci/setup.py,echo "No python3 found: install Python 3.11 or 3.12" >&2; exit 1)

quickstart: setup ## the whole flow on a tiny model, on two CPU cores
	@$(BIN)/stepwell run quickstart

test: setup ## all tests but the slow ones
	@$(BIN)/python -m pytest

slow: setup ## the slow tests
	@$(BIN)/python -m pytest -m slow

check: setup ## ruff, pyright and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports

bench: setup ## the quickstart with three seeds: the figures of the README
	@for seed in 1 2 3; do $(BIN)/stepwell run quickstart seed=$$seed --run-dir runs/bench-$$seed || exit $$?; done

clean: ## caches and build outputs; .venv and runs stay
	@rm -rf .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	@find pipeline rewards tests -name __pycache__ -type d -prune -exec rm -rf {} +
