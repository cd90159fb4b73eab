# The project's commands; `make` alone lists them.
.PHONY: help run test test-servers test-servers-python test-servers-page test-containers check check-style check-types \
	check-page check-python bench faults setup setup-tests
.DEFAULT_GOAL := help

PYTHON := .venv/bin/python

# Node.js and npm, which setup.sh puts beside Python.
NPM := PATH="$(CURDIR)/.venv/bin:$$PATH" npm

# Tests that need a container engine, and are therefore not a part of `make test`.
CONTAINERS := tests/containers
# tests/parts.py parts the others into quick ones and those with servers.
EVERYTHING := tests --ignore=$(CONTAINERS)

# More workers than cores: the tests wait, for paced answers, cut networks, and processes that start or are killed. Those
# with servers wait most. Each worker costs three seconds of imports; five of the quick tests' take a sixth less time than
# three, on two cores.
WORKERS := 5
SLOW_WORKERS := 6
CONTAINERS_WORKERS := 3
# Each process imports the tests and what they test. Where bytecode may not be written, as in images of Python, each
# would also compile them, which takes longer than the imports.
PYTEST := env --unset=PYTHONDONTWRITEBYTECODE $(PYTHON) -m pytest -p no:cacheprovider
# Of the tests with servers, tests/grouping.py says which stay together, and which begin first. Each of the others may run
# anywhere.
GROUPED := --dist=loadscope --numprocesses
SPREAD := --dist=worksteal --numprocesses

help:
	@echo 'make run              install missing dependencies and serve everything on http://localhost:8080 (FOLYAM_PORT)'
	@echo 'make test             install missing dependencies and run all checks and tests but those with containers'
	@echo 'make test-containers  test docker compose; installs a missing engine, as root on Debian'
	@echo 'make test-servers     run the slow part of make test: servers and browsers, the page among them'
	@echo 'make check            run the quick part of the tests: linters, types, unit tests'
	@echo 'make bench            measure the cost of streaming through the service'
	@echo 'make faults           inject faults into the running stack for MINUTES (5), and check that nothing is lost'

setup:
	@deploy/local/setup.sh

setup-tests:
	@deploy/local/setup.sh --tests

# exec: a signal to make's child must reach the program and not a shell.
run: setup
	@exec $(PYTHON) -m deploy.local.run

test: check
	@$(MAKE) --no-print-directory test-servers

test-servers: setup-tests
	@echo 'The tests with servers and browsers: some minutes'
	@$(MAKE) --no-print-directory --jobs=2 test-servers-python test-servers-page

test-servers-python:
	$(PYTEST) $(GROUPED) $(SLOW_WORKERS) --part=servers $(EVERYTHING)

test-servers-page:
	$(NPM) run --prefix frontend --silent --if-present test:chromium

test-containers: setup-tests
	@echo 'The tests with containers: some minutes'
	$(CONTAINERS)/engine.sh $(PYTEST) $(GROUPED) $(CONTAINERS_WORKERS) $(CONTAINERS)

# Four parts in parallel. The output of each is printed as a whole at its end.
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
	$(PYTEST) $(SPREAD) $(WORKERS) --part=quick $(EVERYTHING)

bench: setup-tests
	$(PYTHON) -m tests.bench $(if $(PEERS),--peers)

faults: setup-tests
	$(PYTHON) -m tests.faults --minutes $(or $(MINUTES),5) $(if $(SEED),--seed $(SEED)) $(if $(LOG),--log $(LOG))
