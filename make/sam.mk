# The SAM CLI and the emulator of AWS live in virtual environments of their own: their dependencies conflict with everybody's.

SAM_VERSION := 1.170.0
SAM := .venv/sam/bin/sam
MINISTACK_VERSION := 1.5.33
EMULATOR := .venv/emulator/bin/python
UV = $(or $(wildcard .venv/bin/uv),uv)
ARCHITECTURE ?= arm64
PYTHON_VERSION ?= 3.13
ENDPOINT ?=
BUILD ?= .aws-sam/local/build

.PHONY: sam sam-check sam-lock deploy-local
sam sam-check deploy-local: export SAM_CLI_TELEMETRY := 0
sam sam-check: export AWS_DEFAULT_REGION ?= us-east-1

sam: sam-check ## check the AWS template and build the four Lambda functions into .aws-sam/ (ARCHITECTURE= PYTHON_VERSION=)
	@ARCHITECTURE="$(ARCHITECTURE)" PYTHON_VERSION="$(PYTHON_VERSION)" \
		$(SAM) build --parameter-overrides "Architecture=$(ARCHITECTURE) Runtime=python$(PYTHON_VERSION)"

sam-check: $(SAM) ## check the AWS template alone
	@$(SAM) validate --lint
	@$(SAM) validate --lint --template infra/state.yaml
	@$(SAM) validate --lint --template infra/alarms.yaml

# The emulator runs functions as processes of this machine, so they are built for it and for the Python that runs them.
deploy-local: ARCHITECTURE = $(patsubst amd64,x86_64,$(patsubst aarch64,arm64,$(shell uname -m)))
deploy-local: PYTHON_VERSION = $(shell .venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
deploy-local: $(SAM) $(EMULATOR) ## deploy the AWS template to an emulator on this machine, and try a job on it (PORT= CONFIG= ENDPOINT=)
	@$(EMULATOR) make/deploy_local.py --sam $(SAM) --build "$(BUILD)" --architecture "$(ARCHITECTURE)" \
		--python "$(PYTHON_VERSION)" --config "$(or $(CONFIG),config.yaml)" \
		$(if $(PORT),--port "$(PORT)") $(if $(ENDPOINT),--endpoint "$(ENDPOINT)")

$(SAM): make/sam-requirements.txt | install
	@echo "penstock: installing the SAM CLI $(SAM_VERSION)"
	@$(UV) venv --quiet --no-project --clear --python .venv/bin/python .venv/sam
	@$(UV) pip install --quiet --python .venv/sam/bin/python --require-hashes --no-deps --only-binary :all: -r $<
	@touch $@

$(EMULATOR): make/emulator-requirements.txt | install
	@echo "penstock: installing the emulator ministack $(MINISTACK_VERSION)"
	@$(UV) venv --quiet --no-project --clear --python .venv/bin/python .venv/emulator
	@$(UV) pip install --quiet --python .venv/emulator/bin/python --require-hashes --no-deps --only-binary :all: -r $<
	@touch $@

sam-lock: ## compile the locks of the SAM CLI and the emulator; needs uv
	@echo "aws-sam-cli==$(SAM_VERSION)" | $(LOCK) - --python-version 3.11 --output-file make/sam-requirements.txt
	@printf 'aws-sam-translator\nministack==$(MINISTACK_VERSION)\n' | $(LOCK) - --python-version 3.11 --output-file make/emulator-requirements.txt
