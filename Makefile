# What a change needs, as CI runs it. `make` alone lists the recipes; PYTHON=python3 takes the active environment.
PYTHON ?= .venv/bin/python
WORKERS ?= 3
BIN := $(if $(findstring /,$(PYTHON)),$(dir $(PYTHON)))

.PHONY: help setup test slow interop lint types imports check snapshots pictures bench demo-models

help: ## list the recipes
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name does; do \
	  printf '  make %-12s %s\n' "$$name" "$$does"; done

setup: ## make .venv with everything in it, and check before each commit
	python3 -m venv .venv
	.venv/bin/pip install -q -e '.[dev]'
	.venv/bin/pre-commit install

test: ## all tests but the slow ones, in WORKERS processes
	$(PYTHON) -m pytest -n $(WORKERS)

slow: ## the slow tests
	$(PYTHON) -m pytest -m slow

interop: ## SAEs through the code of other tools, which it installs
	$(BIN)pip install -q '.[interop]'
	$(PYTHON) -m pytest tests/interop

lint: ## style and format
	$(BIN)ruff check .
	$(BIN)ruff format --check .

types: ## types
	$(BIN)mypy

imports: ## which folder may import which
	$(BIN)lint-imports

check: lint types imports test ## all that CI runs

snapshots: ## write the kept screens anew; git diff shows what has changed
	$(PYTHON) -m pytest tests/*/test_snapshots.py --update-snapshots

pictures: ## draw the README's pictures and its table of keys anew
	$(PYTHON) tests/pictures.py

bench: ## measure what a person waits for, what a picture costs, and the scores of a large SAE
	$(PYTHON) tests/benchmarks/bench_workbench.py
	$(PYTHON) -m tests.benchmarks.bench_pictures
	$(PYTHON) -m tests.benchmarks.bench_metrics

demo-models: ## train the demo's models anew, into assets/ (half an hour on two cores)
	$(PYTHON) -m engine.demo.build
