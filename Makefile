# The tasks of the project, the same for people and for continuous integration. `make` lists them.
# Needs make and Python >= 3.11; everything else goes into .venv.

PYTHON ?= python3
VENV ?= .venv
TEST_PROFILE ?= quick
export VENV TEST_PROFILE

BIN := $(VENV)/bin
# pip, not something faster: it reads the machine's own index configuration, and runs once.
# --no-deps because the files name every package already; what they do not name must not come in.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-dev setup-load setup-docs run demo test services services-stop lint format types audit bench bench-peers load docs typescript lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(VENV)/.stamp-runtime ## make .venv with the service in it

setup-dev: $(VENV)/.stamp-dev ## add what tests and checks need

setup-load: $(VENV)-load/.stamp ## make .venv-load with the service and what loads it

setup-docs: $(VENV)-docs/.stamp ## make .venv-docs with what builds the site

run: setup ## start the service on 127.0.0.1:8000 with its data under ./data
	@$(BIN)/sessionmanager serve --data-dir ./data $(ARGS)

demo: setup ## play a recorded call through bridges, crashes, resume and archive, and compare
	@$(BIN)/sessionmanager demo $(ARGS)

test: setup-dev ## lint, types and tests with coverage (TEST_PROFILE=quick|full, ARGS for pytest)
	@scripts/test $(ARGS)

services: setup-dev ## install and start, on loopback, the servers that tests use (ARGS: which)
	@scripts/services start $(ARGS)

services-stop: ## end what make services has started, and nothing else
	@scripts/services stop

lint: setup-dev ## look for mistakes and for formatting that differs
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --output-format concise

format: setup-dev ## format the code and mend what can be mended
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

types: setup-dev ## check the types of sessionmanager/, strictly
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

audit: $(VENV)-audit/.stamp ## ask an advisory database about all that the service runs on
	@$(VENV)-audit/bin/python scripts/audit.py $(ARGS)

bench: setup-dev ## measure, print a table and write build/bench.json
	@mkdir -p build
	@$(BIN)/python -m tests.bench $(ARGS)

bench-peers: setup-dev $(VENV)-peers/.stamp ## measure beside session stores of others, write docs/benchmarks.md
	@$(VENV)-peers/bin/python -m tests.bench.peers $(ARGS)

load: setup-load services ## hold PROFILE=10000 conversations on three tiers, report in build/load
	@$(VENV)-load/bin/python loadtests/run.py $(ARGS)

docs: setup-docs ## build the site into build/site; a broken link is an error
	@$(VENV)-docs/bin/sphinx-build -q -n -W --keep-going -b html -d build/doctrees docs build/site

typescript: setup-dev ## make the types of clients/typescript anew from the contract (needs Node)
	@scripts/typescript generate

lock: $(VENV)/.stamp-venv ## recompile requirements/*.txt (ARGS=--upgrade to move the pins)
	@scripts/lock $(ARGS)

clean: ## remove .venv, build and caches, end the servers of make services; ./data stays
	@[ ! -e build/services.json ] || scripts/services stop
	rm -rf $(VENV) $(VENV)-load $(VENV)-docs $(VENV)-peers $(VENV)-audit build .pytest_cache .ruff_cache .hypothesis .schemathesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: a second `make setup` compares a few dates and is done; a changed file brings the step back.

$(VENV)/.stamp-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "setup: needs Python >= 3.11; $(PYTHON) --version says: $$($(PYTHON) --version 2>&1)" >&2; \
	  echo "setup: name a newer one: make setup PYTHON=python3.12" >&2; exit 1; }
	@echo "setup: $(VENV) from $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.stamp-runtime: requirements/runtime.txt requirements/build.txt pyproject.toml $(VENV)/.stamp-venv
	@echo "setup: requirements/runtime.txt and the project itself"
	@$(INSTALL) --require-hashes -r requirements/build.txt -r requirements/runtime.txt
	@$(INSTALL) --no-build-isolation --editable .
	@touch $@

$(VENV)/.stamp-dev: requirements/dev.txt $(VENV)/.stamp-runtime
	@echo "setup: requirements/dev.txt"
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

# docs, peers, audit: a tool's own environment from its own file. load has a rule of its own below.
$(VENV)-%/.stamp: requirements/%.txt
	@echo "setup: $(@D) from $<"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps --require-hashes -r $<
	@touch $@

# An environment of its own: locust brings a plugin for pytest, and gevent, which patches the standard library.
$(VENV)-load/.stamp: requirements/load.txt requirements/build.txt pyproject.toml $(VENV)/.stamp-venv
	@echo "setup: $(VENV)-load from requirements/load.txt and the project itself"
	@$(BIN)/python -m venv $(VENV)-load
	@$(VENV)-load/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps --require-hashes \
	  -r requirements/build.txt -r requirements/load.txt
	@$(VENV)-load/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps \
	  --no-build-isolation --editable .
	@touch $@
