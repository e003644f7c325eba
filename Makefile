# Every target sets up what it needs; a fresh machine needs GNU make and Python 3.11 or newer.

PYTHON ?= python3
ARGS ?=
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
# The folders that are imported as ringtape.<folder>; api is `ringtape` itself.
SUBPACKAGES := engine coordinator proto traces jobs benchmarks examples

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Made anew when pyproject.toml has changed, so that nothing stays that it no longer asks for. The packages are
# installed as links to the folders: new modules are there at once.
$(READY): pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { echo "ringtape needs Python 3.11 or newer and finds no '$(PYTHON)': install it, or name one with make PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "ringtape needs Python 3.11 or newer, and '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1): name another with make PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "'$(PYTHON)' cannot make virtual environments: on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 1; }
	@echo "installing ringtape and its tools into $(VENV)"
	@"$(PYTHON)" -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

.PHONY: test
test: $(READY) ## Run the tests; ARGS="-k tape" goes to pytest
	$(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist worksteal $(ARGS)

.PHONY: lint
lint: style types ## Check style, format and types

.PHONY: style
style: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Links to the folders, laid out as they are imported, are all that mypy follows; what it says then names the real
# files. A package that pyproject.toml does not list would work here and be missing from the wheel.
.PHONY: types
types: $(READY)
	@for init in $$(find api $(SUBPACKAGES) -mindepth 2 -name __init__.py); do \
	  package=$$(dirname "$${init#api/}"); \
	  grep -qF "\"ringtape.$${package//\//.}\"," pyproject.toml || \
	    { echo "$$init: its package is not among those in pyproject.toml" >&2; exit 1; }; \
	done
	@rm -rf build/types; mkdir -p build/types/ringtape
	@for entry in api/* $(SUBPACKAGES); do ln -s "$$PWD/$$entry" build/types/ringtape/; done
	@echo $(BIN)/mypy
	@$(BIN)/mypy | sed -E 's#build/types/ringtape/(($(subst $() ,|,$(SUBPACKAGES)))/)#\1#g; s#build/types/ringtape/#api/#g'

.PHONY: format
format: $(READY) ## Put the code into the one format, and mend what ruff can
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

.PHONY: proto
proto: $(READY) ## Regenerate the Python code from proto/*.proto
	$(BIN)/python proto/generate.py

.PHONY: demo
demo: $(READY) ## Record and replay an example, start to end
	$(BIN)/ringtape demo

.PHONY: bench
bench: $(READY) ## Run the benchmarks; ARGS goes to them
	$(BIN)/python -m ringtape.benchmarks $(ARGS)

.PHONY: clean
clean: ## Remove all that the targets have made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
