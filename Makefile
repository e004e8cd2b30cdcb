# Everything a person does here is a target; `make help` lists them. Needs make and Python 3.11 to 3.14, nothing else.

HOST ?=
PORT ?=
CONFIG ?=
TESTS ?= tests
export PYTHON

LOCK = uv pip compile --quiet --universal --generate-hashes --no-header --annotation-style line $(if $(UPGRADE),--upgrade)
PYTEST = .venv/bin/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help install install-dev run test check fix engine engine-test bench lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-20s %s\n", $$1, $$2 }'

install: # what the server needs
	@make/venv.sh functions/requirements.txt

install-dev: install # what tests and checks need on top
	@make/venv.sh requirements-dev.txt

run: install ## serve on 127.0.0.1:8000, with SQLite state in .penstock/ (HOST= PORT= CONFIG=)
	@.venv/bin/penstock serve $(if $(HOST),--host "$(HOST)") $(if $(PORT),--port "$(PORT)") $(if $(CONFIG),--config "$(CONFIG)")

test: install-dev ## run all tests that need nothing beyond the package registries (TESTS=path narrows)
	@status=0; \
	$(PYTEST) $(TESTS) -m "not alone" -n auto --maxprocesses 8 || status=$$?; \
	$(PYTEST) $(TESTS) -m alone || [ $$? = 5 ] || status=1; \
	exit $$status

check: install-dev ## lint, types, import contracts and the rules of the house; under a minute
	@status=0; \
	.venv/bin/ruff check . || status=1; \
	.venv/bin/ruff format --check . || status=1; \
	.venv/bin/python -m mypy || status=1; \
	.venv/bin/lint-imports || status=1; \
	$(PYTEST) tests/house -m "not alone" || status=1; \
	exit $$status

fix: install-dev ## format the code and repair what can be repaired without thinking
	@.venv/bin/ruff check --fix . ; .venv/bin/ruff format .

engine: ## install and serve the real SGLang on this CPU (MODEL= a Hugging Face id or a path)
	@gpu_workers/cpu/serve.sh $(if $(MODEL),"$(MODEL)")

engine-test: install-dev ## run the tests that need a real engine
	@PENSTOCK_ENGINE=1 $(PYTEST) tests/engine

bench: install-dev ## measure the gateway against its upstream called directly
	@.venv/bin/python -m bench

lock: ## compile the locks from pyproject.toml (UPGRADE=1 takes new versions); needs uv
	@$(LOCK) pyproject.toml --output-file functions/requirements.txt
	@$(LOCK) --constraint functions/requirements.txt pyproject.toml --group dev --output-file requirements-dev.txt
	@sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements-uv.txt | $(LOCK) - --output-file requirements-uv.txt

clean: ## remove what was built; the state in .penstock/ stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist

-include make/*.mk
