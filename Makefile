# Two commands for a newcomer: `make up` serves a model on this machine, `make test` runs all tests.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Where plugins stand, for tools that look at a role alone.
PLUGINS := ANSIBLE_LIBRARY=deployer/plugins/modules ANSIBLE_ACTION_PLUGINS=deployer/plugins/action
# What runs on a managed host, on its own Python.
ON_HOST := deployer/observe/probe.py deployer/observe/locker.py deployer/observe/reader.py $(wildcard deployer/openai_server/*.py \
  deployer/plugins/modules/*.py deployer/plugins/module_utils/*.py roles/*/files/*.py roles/*/files/*/*.py)
OLDEST := 3.8

.PHONY: help docs up down test test-unit test-roles test-e2e test-rollout test-lab chaos bench lint lint-hosts format install install-test lock clean

help:
	@echo "make up         serve a tiny model with random weights on this machine, and verify it"
	@echo "make down       remove it again"
	@echo "make test       all tests but the longest (less than an hour on two cores; installs the real engine)"
	@echo "make test-unit  the fast ones"
	@echo "make test-lab   the rehearsal lab with every fault, and the longest tests (about an hour; needs a Docker engine)"
	@echo "make chaos      kills the control node 100 times at random events (hours; DEPLOYER_CHAOS_KILLS=N; needs a Docker engine)"
	@echo "make bench      20 hosts beside other ways to do the same; writes docs/benchmarks.md (25 minutes; Docker engine)"
	@echo "make docs lock format clean"

up: $(VENV)/.installed
	$(BIN)/deployer up --inventory inventories/local --model tiny-qwen2 --yes

down: $(VENV)/.installed
	$(BIN)/deployer down --inventory inventories/local --model tiny-qwen2

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "deployer needs Python 3.11 or newer; make PYTHON=/path/to/python3.11 up"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing: apt install python3-venv"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing deployer into $(VENV) (about a minute)"
	@$(PIP) install --quiet --editable .
	@touch $@

install-test: $(VENV)/.installed-test

$(VENV)/.installed-test: $(VENV)/.installed tests/requirements.lock
	@echo "Installing what the tests need"
	@$(PIP) install --quiet --editable '.[test]' --constraint tests/requirements.lock
	@touch $@

test: lint test-unit test-roles test-e2e test-rollout

test-unit: install-test
	$(BIN)/python -m pytest -n auto --dist loadfile tests/unit

test-roles: install-test
	$(BIN)/python -m pytest tests/roles tests/cli -m 'not full'

test-e2e: install-test
	$(BIN)/python -m pytest tests/e2e -m 'not full'

test-rollout: install-test
	$(BIN)/python -m pytest tests/lab -m 'not full'

test-lab: install-test
	$(BIN)/python -m pytest tests/lab
	$(BIN)/python -m pytest tests/roles tests/cli tests/e2e -m full

chaos: install-test
	DEPLOYER_CHAOS_KILLS=$${DEPLOYER_CHAOS_KILLS:-100} $(BIN)/python -m pytest tests/faults -s

bench: install-test
	$(BIN)/python -m bench.run

lint: install-test lint-hosts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PLUGINS) $(BIN)/ansible-lint -q

# vermin knows what the library had in which version, ruff what the syntax and the annotations need.
lint-hosts: install-test
	$(BIN)/vermin --target=$(OLDEST)- --violations --quiet --no-tips --no-parse-comments $(ON_HOST)
	$(BIN)/ruff check --select FA102 --ignore-noqa --target-version py$(subst .,,$(OLDEST)) $(ON_HOST)

format: install-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: install-test
	$(BIN)/python docs/generate.py
	$(BIN)/python -m deployer.cli.completing

lock: install-test
	$(PIP) freeze --exclude-editable > tests/requirements.lock

clean:
	rm -rf $(VENV) .cache dist
