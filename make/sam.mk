# The SAM CLI lives in a virtual environment of its own, because its dependencies conflict with everybody's.

SAM_VERSION := 1.170.0
SAM := .venv/sam/bin/sam
UV = $(or $(wildcard .venv/bin/uv),uv)
ARCHITECTURE ?= arm64
PYTHON_VERSION ?= 3.13

.PHONY: sam sam-check sam-lock
sam sam-check: export SAM_CLI_TELEMETRY := 0
sam sam-check: export AWS_DEFAULT_REGION ?= us-east-1

sam: sam-check ## check the AWS template and build the four Lambda functions into .aws-sam/ (ARCHITECTURE= PYTHON_VERSION=)
	@ARCHITECTURE="$(ARCHITECTURE)" PYTHON_VERSION="$(PYTHON_VERSION)" \
		$(SAM) build --parameter-overrides "Architecture=$(ARCHITECTURE) Runtime=python$(PYTHON_VERSION)"

sam-check: $(SAM) ## check the AWS template alone
	@$(SAM) validate --lint
	@$(SAM) validate --lint --template infra/state.yaml

$(SAM): make/sam-requirements.txt | install
	@echo "penstock: installing the SAM CLI $(SAM_VERSION)"
	@$(UV) venv --quiet --no-project --clear --python .venv/bin/python .venv/sam
	@$(UV) pip install --quiet --python .venv/sam/bin/python --require-hashes --no-deps --only-binary :all: -r $<
	@touch $@

sam-lock: ## compile the lock of the SAM CLI; needs uv
	@echo "aws-sam-cli==$(SAM_VERSION)" | $(LOCK) - --python-version 3.11 --output-file make/sam-requirements.txt
