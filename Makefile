# Two commands to begin with: `make quickstart` and `make test`. Each target sets up .venv first, once.

PYTHON := $(firstword $(shell command -v python3 python3.11 python3.12 2>/dev/null))
BIN := .venv/bin

# No module of the current folder shadows ours; OpenMP threads sleep at barriers instead of
# spinning, which on shared cores is the difference between 87 and 1 tokens per second.
export PYTHONSAFEPATH := 1
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT := 0

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test test-faults test-gpu slow check bench bench-depth bench-grpo bench-policy clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

setup: ## make .venv and install everything into it (does nothing when nothing changed)
	@$(if $(PYTHON),$(PYTHON) .ci/setup.py,echo "No python3 found: install Python 3.11 or 3.12" >&2; exit 1)

quickstart: setup ## the whole flow on a tiny model, on two CPU cores
	@$(BIN)/stepwell run quickstart

test: setup ## all tests but the slow ones, in two processes
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-faults: setup ## runs killed, stopped and damaged at named instants: 40 minutes
	@$(BIN)/python -m pytest -m faults tests/faults

test-gpu: setup ## what needs an NVIDIA GPU; skipped in words where there is none
	@$(BIN)/python -m tests.gpu.pieces

slow: setup ## the slow tests: minutes each
	@$(BIN)/python -m pytest -m slow

check: setup ## ruff, pyright and the import contracts: what a commit must pass beside the tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports

bench: setup ## the quickstart with three seeds, about 20 minutes: figures of tests/bench/README.md
	@for seed in 1 2 3; do $(BIN)/stepwell run quickstart seed=$$seed --run-dir runs/bench-$$seed || exit $$?; done

bench-depth: setup ## the speed of depths per token in both engines, on two quiet cores
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.depth --json

bench-grpo: setup ## time to accuracy against TRL alone, on two quiet cores, 20 minutes
	@$(BIN)/python -m tests.bench.grpo --json

bench-policy: setup ## what a depth policy saves in time; learns one first (depth-tiny, half an hour)
	@$(BIN)/stepwell run depth-tiny
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.policy runs/depth-tiny/stages/export/model depth-tiny --depth 6 --json

clean: ## caches and build outputs; .venv and runs stay
	@rm -rf .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	@find pipeline rewards tests -name __pycache__ -type d -prune -exec rm -rf {} +
