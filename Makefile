# make quickstart   install into .venv, train and evaluate configs/quickstart.py
# make test         install into .venv with the tools, check style and types, run the tests
# make test-all     the same with the tests that are left out for their length
# make test-quick   the quick tests alone; with another Python: VENV=.venv-3.13 PYTHON=python3.13
# make test-lowest  the same with the lowest versions of all dependencies, in .venv-lowest
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
RUN := runs/quickstart

PYTEST = $(BIN)/python -m pytest --numprocesses=2 --dist=loadgroup

.PHONY: quickstart test test-all test-long test-quick test-lowest format clean

quickstart: $(VENV)/.installed
	$(BIN)/draem-jax train --config=configs/quickstart.py --workdir=$(RUN)
	$(BIN)/draem-jax evaluate --workdir=$(RUN)

test: CHOSEN := -m "not long"
test test-all: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) $(CHOSEN)

test-long: $(VENV)/.installed-dev
	$(PYTEST) -m long

test-quick: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow and not long"

# The file holds the floors of setup.cfg; a test compares them.
test-lowest: export PIP_CONSTRAINT := $(CURDIR)/tests/lowest.txt
test-lowest:
	$(MAKE) test-quick VENV=.venv-lowest

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "draem_jax needs Python 3.11 or newer; say which with PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.cfg pyproject.toml | $(BIN)/python
	$(PIP) install --no-compile --editable .
	touch $@

$(VENV)/.installed-dev: setup.cfg pyproject.toml | $(BIN)/python
	$(PIP) install --no-compile --editable '.[dev]'
	touch $@ $(VENV)/.installed
