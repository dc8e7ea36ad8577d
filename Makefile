# make train  sets everything up and runs the main job; make test  likewise the tests.
# Both need Python 3.11 or newer (PYTHON=... names one) and nothing else.

VENV ?= .venv
BIN = $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
ARGS ?= fold=3

.PHONY: train test lint format clean

train: $(VENV)/.ready
	$(BIN)/python -m experiments.train $(ARGS)

test: $(VENV)/.ready lint
	$(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.ready: constraints.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: none found as" \
		"python3, python3.13, python3.12 or python3.11; name one: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--require-hashes --requirement constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --no-build-isolation --editable .
	@touch $@

clean:
	rm -rf $(VENV) *.egg-info build .pytest_cache .ruff_cache
