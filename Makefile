# What can be done here; `make` alone says it.
.PHONY: help run test test-containers check check-style check-types check-page check-python bench faults setup setup-tests
.DEFAULT_GOAL := help

PYTHON := .venv/bin/python

# Node.js and npm, which setup.sh puts beside Python.
NPM := PATH="$(CURDIR)/.venv/bin:$$PATH" npm

# Tests that start servers and browsers; the others are quick.
SLOW := $(wildcard tests/e2e tests/run tests/bench tests/faults)
# Needs a container engine, and so is no part of `make test`.
CONTAINERS := tests/containers

# More workers than cores: most of their time is waiting, for answers that are paced, networks that are away, and
# processes that start or are killed. Which tests stay together, tests/conftest.py says.
WORKERS := 4
PYTEST := $(PYTHON) -m pytest -p no:cacheprovider
PARALLEL := --numprocesses=$(WORKERS) --dist=loadgroup

help:
	@echo 'make run              set up what is missing and serve everything on http://localhost:8080 (FOLYAM_PORT)'
	@echo 'make test             set up what is missing and run every check and test but those with containers'
	@echo 'make test-containers  try docker compose; root on Debian gets an engine with it if there is none'
	@echo 'make check            the quick part of the tests: linters, types, unit tests'
	@echo 'make bench            measure what streaming through the service costs'
	@echo 'make faults           break the running whole in every way for MINUTES (5), and check that nothing is lost'

setup:
	@deploy/local/setup.sh

setup-tests:
	@deploy/local/setup.sh --tests

# exec: so that a signal to the one make started reaches the program and not a shell.
run: setup
	@exec $(PYTHON) -m deploy.local.run

test: check
	@echo 'The tests with servers and browsers: some minutes'
	$(PYTEST) $(PARALLEL) $(SLOW)

test-containers: setup-tests
	@echo 'The tests with containers: some minutes'
	$(CONTAINERS)/engine.sh $(PYTEST) $(CONTAINERS)

# Four parts side by side. Each is printed whole when it is over.
check: setup-tests
	@$(MAKE) --no-print-directory --jobs=4 --output-sync=target check-python check-page check-types check-style

check-style:
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	.venv/bin/lint-imports --no-cache

check-types:
	$(PYTHON) -m mypy service tests deploy

check-page:
	$(NPM) run --prefix frontend --silent --if-present check

check-python:
	$(PYTEST) $(PARALLEL) $(patsubst %,--ignore=%,$(SLOW) $(CONTAINERS))

bench: setup-tests
	$(PYTHON) -m tests.bench

faults: setup-tests
	$(PYTHON) -m tests.faults --minutes $(or $(MINUTES),5) $(if $(SEED),--seed $(SEED))
