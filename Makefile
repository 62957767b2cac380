# Everything needs only Python 3.11 or newer and make; the first target that runs sets the rest up.
.DEFAULT_GOAL := help
.PHONY: help run demo test test-servers contract lint format bench bench-detection train soak migrate new-migration docs lock clean setup setup-dev

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv

help:  ## Say what can be done
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(UV): requirements-uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@touch $(UV)

$(VENV)/.run: requirements.lock pyproject.toml | $(UV)
	@test -e $(VENV)/.dev || $(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(UV)
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements-dev.lock
	@touch $@ $(VENV)/.run

setup: $(VENV)/.run
setup-dev: $(VENV)/.dev

run: setup  ## Start the whole platform on this machine; Ctrl-C stops it and keeps its data
	@exec $(BIN)/python -m deploy.local run

demo: setup  ## Play the loop on the running platform, or on one started for it
	@exec $(BIN)/python -m deploy.local demo

test: setup-dev  ## Run all tests, a file at a time on each core; WORKERS=
	@$(BIN)/python -m pytest -q --dist loadfile -n $(or $(WORKERS),auto) --maxprocesses 4

.venv-servers/.ready: requirements-servers.lock | $(UV)
	@$(UV) venv --quiet --clear .venv-servers
	@$(UV) pip sync --quiet --python .venv-servers/bin/python --require-hashes requirements-servers.lock
	@touch $@

test-servers: setup-dev .venv-servers/.ready  ## Connectors against real Chroma and MLflow servers (a gigabyte of packages)
	@$(BIN)/python -m pytest -q -m servers services/inventory/tests/test_real_servers.py

contract: setup-dev  ## Schemathesis against the running API, at length; EXAMPLES=20
	@EXAMPLES=$${EXAMPLES:-20} PHASES=examples,coverage,fuzzing $(BIN)/python -m pytest -q tests/test_api_contract.py

lint: setup-dev  ## Formatting, lint rules, types, import contracts, manifests and generated documents
	@$(BIN)/ruff format --check --quiet . || { echo "run make format" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m docs.asyncapi --check
	@$(BIN)/python -m deploy.k8s.validate

format: setup-dev  ## Rewrite formatting
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --quiet --fix .

bench: setup-dev  ## Measure the figures of the README; WHAT=footprint|loop|bulk|scale|inventory_graph|gateway for one
	@$(BIN)/python -m bench $(WHAT)

bench-detection: setup-dev  ## What detection finds and how fast, beside peers; CORPORA=folder; WHAT=detection_speed for one
	@$(BIN)/python -m bench $(or $(WHAT),detection_quality detection_peers detection_speed)

train: setup-dev  ## Train the classifier anew from our texts; CORPORA=folder adds labelled texts and calibrates with them
	@$(BIN)/python -m services.detection.training.train $(if $(CORPORA),--corpora $(CORPORA))

soak: setup-dev  ## Kill everything again and again under load and count what is lost; SEED=, KILLS=, REGISTRATIONS=
	@$(BIN)/python -m bench.soak

migrate: setup  ## Bring the running platform's databases to the newest revision
	@$(BIN)/python -m deploy.local migrate

new-migration: setup-dev  ## Write a revision with what changed in a service's tables; SERVICE=, TITLE=
	@$(BIN)/python -m deploy.local new-migration $(SERVICE) "$(TITLE)"

docs: setup-dev  ## Generate docs/asyncapi.yaml from the contracts
	@$(BIN)/python -m docs.asyncapi

lock: $(UV)  ## Choose versions anew and write the lock files
	@$(UV) pip compile -q --universal --generate-hashes --no-header --python-version 3.11 requirements-uv.in -o requirements-uv.lock
	@$(UV) pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --upgrade --extra inventory --extra detection --extra metrics --extra local pyproject.toml -o requirements.lock
	@$(UV) pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --all-extras -c requirements.lock pyproject.toml -o requirements-dev.lock

clean:  ## Remove the virtual environment and caches; the platform's data stays
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
