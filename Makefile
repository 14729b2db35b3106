# The commands that people type. Each sets up what it needs the first time.
PYTHON ?= python3
RUN := .venv/bin/python
.DEFAULT_GOAL := help

help: ## List the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

LOCK := .venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url
INSTALL := $(RUN) -m pip install --disable-pip-version-check --require-hashes -r

.venv/demo: examples/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tandem needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv --clear .venv && $(INSTALL) examples/requirements.txt && touch $@

.venv/developer: .venv/demo requirements.txt
	$(INSTALL) requirements.txt && touch $@

demo: .venv/demo ## Ask two questions of both tiers on this machine, without a GPU
	@$(RUN) -m examples.demo

up: .venv/demo ## Leave both tiers running on ports 8000 and 8001
	@$(RUN) -m examples.tiers up

down: .venv/demo ## End what `make up` started
	@$(RUN) -m examples.tiers down

test: .venv/developer ## Run the whole test suite
	$(RUN) -m pytest -n auto

soak: .venv/developer ## 10,000 requests while engines and orchestrators are killed and restarted
	$(RUN) -m tests.soak

check: .venv/developer ## Lint, types, imports, and generated texts
	$(RUN) -m ruff check . && $(RUN) -m ruff format --check . && $(RUN) -m mypy && .venv/bin/lint-imports
	$(RUN) docs/settings_table.py --check

lock: .venv/developer ## Write the lock files anew from requirements.in
	$(LOCK) services/orchestrator/requirements.in -o services/orchestrator/requirements.txt
	$(LOCK) -c services/orchestrator/requirements.txt examples/requirements.in -o examples/requirements.txt
	$(LOCK) -c examples/requirements.txt requirements.in -o requirements.txt

.PHONY: help demo up down test soak check lock
