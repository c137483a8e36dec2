# Two commands from a fresh clone: `make demo` and `make test`. Both can be run again and again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# DVC hashes the names of photos as the locale decodes them.
export PYTHONUTF8 = 1

.PHONY: help install demo test bench lint check remote use serve clean
help:
	@echo "make demo    install, lay out the demo photos, run every model, print the table"
	@echo "make test    install, run the tests"
	@echo "make bench   list what is measured against other ways; make bench NAME=embed measures"
	@echo "make lint    ruff, pyright, import contracts"
	@echo "make check   check params.yaml alone"
	@echo "make serve MODEL=arcface       search the gallery by picture in a local page"
	@echo "make use PRESET=competition    put a preset in place as params.yaml"
	@echo "make remote URL=s3://...       share results through a DVC remote (or a shared folder)"

install: $(VENV)/.installed
$(VENV)/.installed: pyproject.toml constraints.txt requirements-demo.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed; say make PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test,dev]"
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-demo.txt
	touch $@

check: install
	lineup check

demo: check
	lineup demo
	dvc repro
	@lineup show
	@echo "The pictures behind the figures: open data/report/index.html in a browser."

# A process per core, at most four (each may hold 2 GB); a file's tests share what they set up, so they stay together.
# Threads that wait must not spin: the processes share the cores.
test: export OMP_WAIT_POLICY = PASSIVE
test: install
	python -m pytest -n auto --maxprocesses 4 --dist loadfile

# Without NAME: the list. Each measures against an alternative in the same run; benchmarks/RESULTS.md has what they gave.
bench: $(if $(NAME),install)
	@$(if $(NAME),python -m pip install --quiet -c constraints.txt -e ".[bench]")
	@$(if $(NAME),python,$(PYTHON)) -m benchmarks $(NAME) $(OPTIONS)

lint: install
	ruff check .
	ruff format --check .
	lint-imports --no-cache
	pyright

serve: install
	lineup serve $(if $(MODEL),--row $(MODEL))

# The settings in place are kept beside the new ones: nothing of the user's is lost.
use:
	@test -f "presets/$(PRESET).yaml" || { echo "error: PRESET is '$(PRESET)'; known: $$(ls presets | sed -n 's/\.yaml$$//p' | xargs)"; exit 1; }
	@kept=no; for file in presets/*.yaml params.yaml.before*; do cmp -s params.yaml "$$file" && kept=yes; done; \
	if test -f params.yaml && test $$kept = no; then \
		before=params.yaml.before; number=1; \
		while test -e "$$before"; do number=$$((number + 1)); before=params.yaml.before.$$number; done; \
		cp params.yaml "$$before"; echo "params.yaml was kept as $$before"; \
	fi
	@cp "presets/$(PRESET).yaml" params.yaml
	@echo "params.yaml is now presets/$(PRESET).yaml; put your photos into data/raw and run: dvc repro"

# verify: an object that was damaged on the remote is found when it is pulled, and computed again.
remote:
	@test -n "$(URL)" || { echo "error: say where: make remote URL=s3://bucket/folder, or the path of a shared folder"; exit 1; }
	@case "$(URL)" in s3://*) python -c 'import dvc_s3' 2>/dev/null || python -m pip install --quiet -c constraints.txt dvc-s3;; esac
	dvc remote add --default --force team "$(URL)"
	dvc remote modify team verify true

clean:
	rm -rf $(VENV) build *.egg-info
