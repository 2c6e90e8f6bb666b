# POSIX sh recipes; every path is relative, so that the checkout may live anywhere.
.DEFAULT_GOAL := help
SHELL := /bin/sh

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
ARGS ?=

PY := "$(VENV)/bin/python"
STAMP := $(VENV)/.setup-stamp
# What is installed into the environment, without what installing leaves behind.
COMPAT := $(shell find compat -type f ! -path '*/build/*' ! -path '*.egg-info/*' ! -name '*.pyc' 2>/dev/null)
# One thread a process: several tests run side by side.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist loadfile

.PHONY: help setup demo pictures test test-slow fuzz ruff lint format bench clean

help: ## List the targets
	@echo 'make TARGET [PYTHON=python3.11] [VENV=.venv] [JOBS=2] [ARGS="..."]'
	@sed -n 's/^\([a-z-]*\):.*## /  \1|/p' Makefile | awk -F'|' '{ printf "%-12s %s\n", $$1, $$2 }'

setup: $(STAMP) ## Create the environment .venv, or bring it up to date

$(STAMP): requirements.txt requirements-dev.txt setup.py pyproject.toml $(COMPAT)
	@[ -x $(PY) ] || command -v "$(PYTHON)" >/dev/null || { \
	  echo "No $(PYTHON) found; name an interpreter: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@if [ -x $(PY) ]; then python=$(PY); else python="$(PYTHON)"; fi; \
	"$$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "$$python is `"$$python" --version 2>&1`; MMPose 1.x needs 3.10 to 3.13." \
	       "Name another one: make PYTHON=python3.11 (after removing $(VENV), if it exists)" >&2; exit 1; }
	[ -x $(PY) ] || "$(PYTHON)" -m venv "$(VENV)"
	$(PY) -m pip install -r requirements.txt -r requirements-dev.txt
	$(PY) -m pip install --no-deps -e .
	@touch "$@"

demo: setup ## Generate data, train a small network on it and show what it finds
	$(PY) tools/demo.py $(ARGS)

pictures: demo ## Draw the docs' pictures anew with what the demo has trained
	$(PY) tools/pictures.py --checkpoint "$$(cat demo_output/train/last_checkpoint)"

test: setup ## Run the tests (all but the slow ones)
	$(PYTEST) -m 'not slow' $(ARGS)

test-slow: setup ## Run the slow tests: whole trainings, builds
	$(PYTEST) -m slow $(ARGS)

fuzz: setup ## Mutated files through every door, for 60 s or --seconds (--seed, --door)
	OMP_NUM_THREADS=1 $(PY) -m fuzz $(ARGS)

bench: setup ## Measure speed against MMPose
	$(PY) tools/bench.py $(ARGS)

# Style needs ruff alone: a small environment serves where the large one does not exist.
LINT_STAMP := build/lint-venv/.setup-stamp
FIND_RUFF := python=$(PY); "$$python" -m ruff --version >/dev/null 2>&1 || python=build/lint-venv/bin/python

$(LINT_STAMP): requirements-dev.txt
	"$(PYTHON)" -m venv build/lint-venv
	build/lint-venv/bin/python -m pip install --quiet "`grep '^ruff' requirements-dev.txt`"
	@touch "$@"

ruff:
	@$(PY) -m ruff --version >/dev/null 2>&1 || $(MAKE) --no-print-directory $(LINT_STAMP)

lint: ruff ## Check style
	@$(FIND_RUFF); set -x; "$$python" -m ruff check . && "$$python" -m ruff format --check .

format: ruff ## Correct style where that is possible
	@$(FIND_RUFF); set -x; "$$python" -m ruff check --fix .; "$$python" -m ruff format .

clean: ## Remove what builds, tests and demos leave (not .venv)
	rm -rf build dist mmpose_attn.egg-info .pytest_cache .ruff_cache demo_output fuzz_output
	find mmpose_attn benchmarks demo fuzz tests tools configs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
