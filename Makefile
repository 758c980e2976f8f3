# Every target bootstraps .venv by itself; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Debian ships ensurepip apart, in python3-venv; pip itself can fill an environment without it.
VENV_WITHOUT_ENSUREPIP := { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --quiet --python $(BIN)/python install pip; }
INSTALL := $(BIN)/python -m uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt --override overrides.txt -r pyproject.toml --group dev
MANIFESTS := pyproject.toml $(wildcard core/pyproject.toml apps/*/pyproject.toml) constraints.txt overrides.txt
DEMO_HOME ?= .demo
PORT ?= 8501
SERVE ?= 1

.DEFAULT_GOAL := help
.PHONY: help install demo test check format dashboard constraints screenshots clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): $(MANIFESTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Quatrain needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Run: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || $(VENV_WITHOUT_ENSUREPIP)
	@echo "Installing into $(VENV); the first time this takes a few minutes (PyTorch is several GB) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(INSTALL)
	@$(BIN)/python -m compileall -q core/src apps
	@touch $@

install: $(STAMP) ## Create .venv and install core, every app and the development tools

demo: $(STAMP) ## Train, score and show every app on embedded data; SERVE=0 ends after the table
	@$(BIN)/quatrain demo --home $(DEMO_HOME)
ifneq ($(SERVE),0)
	@QUATRAIN_CORE__HOME=$(abspath $(DEMO_HOME)) $(BIN)/quatrain dashboard --port $(PORT)
endif

test: $(STAMP) ## Run every test
	@$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4

check: $(STAMP) ## Lint, format check, strict types, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP) ## Rewrite the code in the house format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

dashboard: $(STAMP) ## Serve the dashboards of your own models and data on 127.0.0.1
	@$(BIN)/quatrain dashboard --port $(PORT)

constraints: $(STAMP) ## Resolve the newest versions that fit together into constraints.txt
	@$(BIN)/python -m uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --override overrides.txt \
		--no-emit-package quatrain-core --no-emit-package quatrain-fintech --no-emit-package quatrain-healthcare \
		--no-emit-package quatrain-industrial --no-emit-package quatrain-smart-city \
		pyproject.toml --group dev --output-file constraints.txt

screenshots: $(STAMP) ## Take the README's screenshots again in Chromium
	@QUATRAIN_SCREENSHOTS=1 $(BIN)/python -m pytest -m browser tests/browser

clean: ## Remove .venv, caches and the demo's data
	rm -rf $(VENV) $(DEMO_HOME) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
