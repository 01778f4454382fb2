# `make help` lists the targets. Each one sets up what it needs: only python3 has to be there.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
LOWER_VENV ?= .venv-lower
JOBS ?= 2
BIN := $(VENV)/bin
LOWER_BIN := $(LOWER_VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
DOCS_STAMP := $(VENV)/.installed-docs
LOWER_STAMP := $(LOWER_VENV)/.installed

# Two test workers on two cores leave one thread to each.
export OMP_NUM_THREADS ?= 1
# A folder of data sets beside the checkout serves the demo and the tests that want real data.
ifneq ($(wildcard ../shared/data),)
export SKREWEIGHT_DATA ?= $(abspath ../shared/data)
endif

.PHONY: help install demo demo-weightings test test-slow test-lower lint format bench docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## the APS failure data in one line, beside trees: a table and a figure
	$(BIN)/python examples/table_in_one_line.py

demo-weightings: $(STAMP) ## every weighting on the APS failure data, in a table and a figure
	$(BIN)/python examples/aps_failure.py

test: lint ## style, types, doctests and all tests but the slow ones
	$(BIN)/pytest -q -n $(JOBS) -m "not slow" --durations=5 --doctest-modules skreweight tests

test-slow: $(DOCS_STAMP) ## the slow tests, the build of the documentation among them
	$(BIN)/pytest -q -n $(JOBS) -m slow --durations=5 tests || [ $$? -eq 5 ]  # 5: none is marked slow

test-lower: $(LOWER_STAMP) ## the tests with the oldest supported versions (PyPI's torch: some GB)
	$(LOWER_BIN)/pytest -q -n $(JOBS) -m "not slow" --doctest-modules skreweight tests --ignore tests/benchmarks

lint: $(STAMP) ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## put the code into the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(BENCH_STAMP) ## time per epoch beside the peers
	$(BIN)/python benchmarks/speed.py

docs: $(DOCS_STAMP) ## the documentation as HTML in docs/_build; warnings are errors
	$(BIN)/sphinx-build -q -W --keep-going docs docs/_build
	@echo "docs/_build/index.html"

install: $(STAMP) ## set up the environment and nothing else

clean: ## remove the environments and everything built
	rm -rf $(VENV) .venv-lower *.egg-info build dist docs/_build docs/generated docs/auto_examples
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written last, so an installation that was cut off starts again.
define make-venv
@$(PYTHON) -c 'import sys; sys.exit("skreweight needs Python 3.11 or newer: make PYTHON=python3.12" \
	if sys.version_info < (3, 11) else 0)'
[ -x $(1)/bin/python ] || $(PYTHON) -m venv $(1)
endef

$(STAMP): pyproject.toml constraints.txt
	$(call make-venv,$(VENV))
	@echo "Installing into $(VENV): a few minutes, once"
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[examples,test]"
	touch $@

# BackPACK without its dependencies: see the extra `bench` in pyproject.toml.
$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[bench]"
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps backpack-for-pytorch
	touch $@

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[docs,scale]"
	touch $@

$(LOWER_STAMP): pyproject.toml constraints-lower.txt
	$(call make-venv,$(LOWER_VENV))
	$(LOWER_BIN)/python -m pip install -q -c constraints-lower.txt -e ".[test]"
	touch $@
