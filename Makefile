# make train  sets everything up and runs the main job; make test  likewise the tests,
# make test-all  those besides that tests/slow.txt leaves out of them;
# make bench  likewise the benchmarks, in an environment of their own with the rivals.
# All need Python 3.11 or newer (PYTHON=... names one) and nothing else; without a C++
# compiler the rivals that PyTorch compiles are told as missing.

VENV ?= .venv
BENCH ?= .venv-bench
BIN = $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PIP = bin/python -m pip install --quiet --disable-pip-version-check
ARGS ?= fold=3

.PHONY: train test test-all bench lint format clean

train: $(VENV)/.ready
	$(BIN)/python -m experiments.train $(ARGS)

test: $(VENV)/.ready lint
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" $(PYTEST_ARGS)

test-all: $(VENV)/.ready lint
	$(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

bench: $(BENCH)/.ready
	$(BENCH)/bin/python -m benchmarks $(BENCH_ARGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

define empty-environment
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: none found as" \
		"python3, python3.13, python3.12 or python3.11; name one: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(1)
endef

$(VENV)/.ready: constraints.txt pyproject.toml
	$(call empty-environment,$(VENV))
	$(VENV)/$(PIP) --require-hashes --requirement constraints.txt
	$(VENV)/$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# A wheel of PyTorch that this machine keeps (pip's find-links), such as its small CPU
# build; else the package index's, which on Linux wants NVIDIA's libraries besides.
$(BENCH)/.ready: benchmarks/constraints.txt benchmarks/torch.txt benchmarks/cuda.txt pyproject.toml
	$(call empty-environment,$(BENCH))
	$(BENCH)/$(PIP) --require-hashes --no-deps --requirement benchmarks/constraints.txt
	$(BENCH)/$(PIP) --require-hashes --no-deps --no-index --requirement benchmarks/torch.txt \
		2>/dev/null || \
	$(BENCH)/$(PIP) --require-hashes --no-deps --requirement benchmarks/torch.txt \
		--requirement benchmarks/cuda.txt
	$(BENCH)/$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

clean:
	rm -rf $(VENV) $(BENCH) *.egg-info build .pytest_cache .ruff_cache
