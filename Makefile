# Two commands from a fresh clone: `make demo` and `make test`. Both can be run again and again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# DVC hashes the names of photos as the locale decodes them.
export PYTHONUTF8 = 1
# Each stage is a new Python, which without saved bytecode would compile all of lineup that it imports.
unexport PYTHONDONTWRITEBYTECODE
# `CONSTRAINTS= make test` tests the newest versions that pyproject.toml allows.
CONSTRAINTS ?= -c constraints.txt

.PHONY: help install install-all demo test bench lint check remote use serve clean
help:
	@echo "make demo                      install, lay out the demo photos, run every row, print the table"
	@echo "make test                      install the rest, run the tests"
	@echo "make lint                      ruff, deptry, import contracts, pyright"
	@echo "make bench                     list the benchmarks; make bench NAME=embed runs one"
	@echo "make check                     check params.yaml and data/raw, and estimate a run"
	@echo "make serve ROW=arcface         search the gallery with a photo on a local page"
	@echo "make use PRESET=photos         put a preset in place as params.yaml"
	@echo "make remote URL=s3://...       share results through a DVC remote (or a shared folder)"

# What a run needs. The engines are among it, since the figures of the demo are theirs.
install: $(VENV)/.installed
$(VENV)/.installed: pyproject.toml constraints.txt requirements-demo.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed; use make PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) -e ".[openvino,onnxruntime,heic]"
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-demo.txt
	touch $@

# What `make test` and `make lint` need beside it.
install-all: $(VENV)/.installed-all
$(VENV)/.installed-all: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) -e ".[test,dev]"
	touch $@

check: install
	lineup check

demo: check
	lineup demo
	dvc repro
	@lineup show
	@echo "The pictures behind the figures: open data/report/index.html in a browser."

# tests/conftest.py says in how many processes; a file's tests share what they set up, so they stay together.
# Threads that wait must not spin: the processes share the cores.
test: export OMP_WAIT_POLICY = PASSIVE
test: install-all
	python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# Without NAME it lists them. Each compares with an alternative in the same run; benchmarks/RESULTS.md has the figures.
bench: $(if $(NAME),install-all)
	@$(if $(NAME),python -m pip install --quiet $(CONSTRAINTS) -e ".[bench]")
	@$(if $(NAME),python,$(PYTHON)) -m benchmarks $(NAME) $(OPTIONS)

# deptry runs twice: every import is declared and every package used; and a run needs no package of the tests.
lint: install-all
	ruff check .
	ruff format --check .
	deptry .
	deptry lineup stages --optional-dependencies-dev-groups test,bench,dev
	lint-imports --no-cache
	pyright

serve: install
	lineup serve $(if $(ROW),--row $(ROW))

use: install
	@lineup use "$(PRESET)"

# verify: DVC checks what it pulls, so that a damaged object is computed again.
remote:
	@test -n "$(URL)" || { echo "error: URL is not set; use make remote URL=s3://bucket/folder, or the path of a shared folder"; exit 1; }
	@case "$(URL)" in s3://*) python -c 'import dvc_s3' 2>/dev/null || python -m pip install --quiet $(CONSTRAINTS) dvc-s3;; esac
	dvc remote add --default --force team "$(URL)"
	dvc remote modify team verify true

clean:
	rm -rf $(VENV) build *.egg-info
