# Each target makes the virtual environment that it needs. VENV, PYTHON, PIP_ARGS, PORT and JOBS can be set on the command line.
VENV     ?= .venv
PYTHON   ?= python3.11
PIP_ARGS ?=
PORT     ?= 8085
JOBS     ?= 2

BIN      := $(VENV)/bin
INPUTS   := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-runs test-images lint format compile images lock-images clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-11s %s\n", $$1, $$2}'

demo: $(VENV)/.demo ## Prepare, fine-tune, evaluate, register and serve on this machine, in some ten minutes
	$(BIN)/avskrift run --source demo: --language sv --base-model package:whisper-base \
	  --baseline package:whisper-base --epochs 2 --learning-rate 5e-5 --port $(PORT) --summary .avskrift/demo/summary.json

test: $(VENV)/.dev ## Run the tests that take no minutes each, a file at a time on each of JOBS processes
	$(BIN)/pytest --numprocesses $(JOBS) --dist loadfile

test-runs: $(VENV)/.dev ## Run the tests of whole runs, and of the real weights
	$(BIN)/pytest --numprocesses $(JOBS) --dist loadfile -m "runs or weights"

test-images: $(VENV)/.dev ## Build the images with a Docker engine and run each as a careful cluster does
	$(BIN)/pytest -m images tests/images

lint: $(VENV)/.dev ## Check style, types, import contracts and that the compiled pipelines are current
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/avskrift compile --check

format: $(VENV)/.dev ## Mend style where a tool can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

compile: $(VENV)/.dev ## Write the pipelines as YAML into pipelines/compiled
	$(BIN)/avskrift compile

images: $(VENV)/.dev ## Build the four images: make images IMAGES="train --push registry.example"
	$(BIN)/python images/build $(IMAGES)

lock-images: $(VENV)/.dev ## Write the images' requirements, with hashes, from pyproject.toml
	$(BIN)/python images/lock

clean: ## Stop the endpoint; remove the virtual environment and all local state
	-@if [ -x $(BIN)/avskrift ]; then $(BIN)/avskrift stop; fi
	rm -rf $(VENV) .avskrift build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/bin/python:
	@echo "Making the virtual environment $(VENV)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# A stamp for each set of extras; the larger set serves the smaller, so `make test demo` installs once.
$(VENV)/.demo: $(VENV)/bin/python $(INPUTS)
	@if [ ! $(VENV)/.dev -nt pyproject.toml ]; then echo "Installing avskrift[demo] (some minutes, once)"; \
	  $(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[demo]'; fi
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python $(INPUTS)
	@echo "Installing avskrift[dev] (some minutes, once)"
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[dev]'
	@touch $@
