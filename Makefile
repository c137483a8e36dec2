# Two commands from a fresh clone: `make demo` and `make test`. Both can be run again and again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help install demo test lint check clean
help:
	@echo "make demo    install, lay out the demo photos, run every model, print the table"
	@echo "make test    install, run the tests"
	@echo "make lint    ruff, pyright, import contracts"
	@echo "make check   check params.yaml alone"

install: $(VENV)/.installed
$(VENV)/.installed: pyproject.toml constraints.txt requirements-demo.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "error: Python 3.10 or newer is needed; say make PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test,dev]"
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-demo.txt
	touch $@

check: install
	python -m stages.lib.params

demo: check
	python -m stages.demo
	dvc repro
	@python -m stages.compare --show

test: install
	python -m pytest

lint: install
	ruff check .
	ruff format --check .
	lint-imports --no-cache
	pyright

clean:
	rm -rf $(VENV) build *.egg-info
