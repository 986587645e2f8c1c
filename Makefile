# Two commands do all the set-up: `make run` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
SHELL := /bin/bash

.PHONY: env run test check serve ui
.DEFAULT_GOAL := run

# The environment is made again when what it is made from changes.
env: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"fgpipe needs Python 3.11 to 3.13, $(PYTHON) is {v[0]}.{v[1]}; try make PYTHON=python3.12")'
	@$(PYTHON) -m venv .venv
	@echo "installing into .venv (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[demo,dev]' \
		2> >(grep -v '^WARNING: Location' >&2)
	@touch $@

# Data are fetched only where the project has none of its own.
run: env
	@if [ ! -f data/raw/labels.csv ]; then $(BIN)/fgpipe data fetch elpv; fi
	@$(BIN)/fgpipe run
	@$(BIN)/fgpipe status

test: check
	@$(BIN)/python -m pytest -q -m "not gpu"

check: env
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-cache > .venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }
	@git ls-files -coz --exclude-standard | xargs -0 $(BIN)/codespell

serve: env
	@$(BIN)/fgpipe serve

ui: env
	@$(BIN)/fgpipe ui
