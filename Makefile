# Each target makes the environment that it needs from nothing but a Python; a second call installs nothing.

VENV ?= .venv
RUN ?= runs/demo
DEMO_STEPS ?= 1500
OUT ?= runs/accelerator
ACCELERATOR_ARGS ?=
TEST_PROCESSES ?= auto
PYTEST_ARGS ?=
SINCE ?= main
RECIPE ?=
ARGS ?=
# What `make docs` makes: html, or dummy, which reads, executes and checks all and writes nothing.
PAGES ?= html

BIN := $(VENV)/bin
SPHINX := $(BIN)/python -m sphinx --jobs auto --fail-on-warning --keep-going --quiet
PYTEST := $(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --maxprocesses 8 --dist loadfile
# glibc's memory in pages of 2 MiB: small networks on a CPU otherwise spend much of a training step on page faults.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
unexport PYTHONDONTWRITEBYTECODE  # scripts/environment leaves compiling to the first import, which must then be kept

.DEFAULT_GOAL := help
.PHONY: help demo accelerator test test-fast test-changed test-oldest check format reproduce ledger notebook docs lock clean \
	run-env dev-env

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1@/p' Makefile | awk -F@ '{ printf "%-18s %s\n", $$1, $$2 }'
	@echo "PYTHON=/path/to/python chooses the Python, VENV=folder its environment (default: the newest, $(VENV))"

demo: run-env  ## train a small model to draw shapes by sentences, count how well it does, write the report (runs/demo)
	$(BIN)/python -m experiments.shapes_text --workdir $(RUN) --steps $(DEMO_STEPS)
	$(BIN)/python benchmarks/prompt_following.py $(RUN) --n 128 --guidance 3 --out $(RUN) --name grid
	$(BIN)/imagegen report $(RUN)
	@echo "the picture: $(RUN)/grid.png"
	@echo "the report:  $(RUN)/report.html"

accelerator:  ## measure this project on the GPUs or TPUs here, in 8 minutes (OUT=folder; VENV or PYTHON: with their jax)
	$(or $(PYTHON),$(BIN)/python) scripts/on_accelerator $(OUT) $(ACCELERATOR_ARGS)

test: dev-env  ## all tests
	$(PYTEST) $(PYTEST_ARGS)

test-fast: dev-env  ## the tests that take seconds
	$(PYTEST) -m "not slow and not long" $(PYTEST_ARGS)

test-changed: dev-env  ## the tests that the changes since SINCE (default: main) can reach
	@files=$$($(BIN)/python scripts/reached_tests.py $(SINCE)) || exit 1; \
	if [ -n "$$files" ]; then $(PYTEST) --reached-since $(SINCE) $(PYTEST_ARGS) $$files; else echo "no test is reached"; fi

test-oldest: dev-env  ## the tests that take seconds of what depends on the versions of Python and jax
	$(PYTEST) -m "not slow and versions" $(PYTEST_ARGS)

check: dev-env  ## formatting, lint and types, also of the Dockerfile
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint Dockerfile; fi

format: dev-env  ## mend what `make check` says of formatting and of lint, as far as that goes by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

reproduce: dev-env  ## train RECIPE by one more seed, score it, compare with the ledger, and add it there (minutes to hours)
	@test -n "$(RECIPE)" || { echo "say which: make reproduce RECIPE=gpt_digits (imagegen list shows them)"; exit 1; }
	$(BIN)/python benchmarks/reproduce.py $(RECIPE) $(ARGS); status=$$?; $(BIN)/python scripts/ledger.py; exit $$status

ledger: dev-env  ## write docs/ledger.md anew from what was measured
	$(BIN)/python scripts/ledger.py

notebook: dev-env  ## execute the notebooks
	for notebook in notebooks/*.ipynb; do $(BIN)/jupyter execute "$$notebook" || exit 1; done

docs: dev-env  ## the site of docs/ (docs/_build/index.html), its code executed (Python 3.13; LINKS=1 asks the net for its links)
	@$(BIN)/python -c 'import sphinx' || { echo "the pages want Python 3.13 or newer: make docs PYTHON=python3.13"; exit 1; }
	$(SPHINX) --builder $(PAGES) docs docs/_build
	$(if $(LINKS),$(SPHINX) --builder linkcheck docs docs/_build/links)
	@$(if $(filter html,$(PAGES)),echo "the pages: docs/_build/index.html")

lock: dev-env  ## pin the newest versions of everything anew (requirements/*.txt)
	$(BIN)/python -m pip install --quiet uv
	@$(call pin,pyproject.toml --extra dev,dev)
	@$(call pin,pyproject.toml --constraint requirements/dev.txt,run)
	@$(call pin,requirements/build.in --constraint requirements/dev.txt,build)

# One file for Python 3.11 and newer on any platform. dev.txt comes first, so that it holds all that run.txt does.
define pin
$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate --no-header --output-file requirements/$(2).txt $(1) && echo requirements/$(2).txt
endef

clean:  ## delete the environments and all caches; runs stay
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

run-env dev-env: %-env:
	@scripts/environment $(VENV) $*
