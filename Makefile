# Everything a person does with this repository. `make` alone lists it.
# Only python3 (3.11 or newer) and make are needed: each target sets up .venv by itself, once.

PYTHON ?= python3
ARGS   ?=
VENV   := .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow lint format bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo '  PYTHON=python3.12 picks the interpreter; ARGS="..." is passed on (make demo ARGS="--quick", make test ARGS="-k space").'

demo: $(VENV)/.installed-demo ## tune a small neural network in front of your eyes; writes demo.png
	$(BIN)/python -m bayesopt.demo $(ARGS)

test: $(VENV)/.installed-dev ## run the tests, the doctests and the README's examples
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 $(ARGS)

test-slow: $(VENV)/.installed-dev ## run the tests that take long
	$(BIN)/pytest -m slow $(ARGS)

lint: $(VENV)/.installed-dev ## check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## rewrite the code in the house format
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

bench: $(VENV)/.installed-dev ## compare with other libraries on a few problems (10 minutes); refreshes the README's table
	$(BIN)/python -m benchmarks standing $(ARGS)

clean: ## remove .venv, caches and builds
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find bayesopt benchmarks tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# A stamp is fresh until the packaging changes: the next run starts at once and needs no network.
# The build backends, ours and that of cocopp (which has no wheel), come from constraints.txt too, hence no build isolation.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

$(VENV)/.installed-%: pyproject.toml constraints.txt | $(BIN)/pip
	@echo 'Installing bayesopt-torch[$*] into $(VENV); the first time this takes a few minutes.'
	@$(PIP) setuptools setuptools-scm
	@$(PIP) --no-build-isolation --editable '.[$*]'
	@touch $@

# What dev installs is all that the demo needs.
ifneq ($(wildcard $(VENV)/.installed-dev),)
$(VENV)/.installed-demo: $(VENV)/.installed-dev
	@touch $@
endif

$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || { echo 'error: no $(PYTHON) here. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo 'error: $(PYTHON) has no venv module. On Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
