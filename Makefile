# Every target makes its own environment in .venv; on a fresh machine each one is enough by itself.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint docs bench mutants clean help
.DEFAULT_GOAL := help

help: ## List the targets.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  make \1\t/' | expand -t 16

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "erlangen needs Python 3.11 or newer; call make with PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/core.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/core.stamp
	$(PIP) -e '.[all,docs,dev]'
	@touch $@

demo: $(VENV)/core.stamp ## Train a sensor model, turn the watch, make it exact, write erlangen-demo/report.html.
	$(BIN)/erlangen demo --out erlangen-demo

test: $(VENV)/dev.stamp lint docs ## Lint, types, docs and all tests.
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/dev.stamp ## ruff (lint and format) and pyright.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/dev.stamp ## Build the site into site/; warnings are errors.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/dev.stamp ## Speed side by side with the peers, one JSON line per case.
	@for file in benchmarks/bench_*.py; do $(BIN)/python $$file || exit 1; done

ROOM ?= soft
N    ?= 30
SEED ?= 0
mutants: $(VENV)/dev.stamp ## Do the tests of ROOM=soft notice N=30 changed tokens, drawn by SEED=0?
	OMP_NUM_THREADS=1 $(BIN)/python scripts/mutants.py $(ROOM) -n $(N) --seed $(SEED)

clean: ## Remove the environment and everything that was built.
	rm -rf $(VENV) site dist erlangen-demo .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
