# Everything a developer runs. Needs Python 3.11 or newer, make, and an index of Python packages; makes the rest itself.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# tests in two processes of one thread, each file whole in one; `make test IN_TWO=` has one process
IN_TWO ?= -n 2 --dist loadfile

BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
SOURCES := guardrail hooks tests docs indexes .ci $(wildcard tools)
# mkdocs-material prints a banner about the future of MkDocs unless told not to
export NO_MKDOCS_2_WARNING := 1
# another environment that is active in the shell is none of ours
unexport VIRTUAL_ENV PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help demo test lint types docs ci clean format

help: ## list these commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

demo: $(STAMP) ## the whole story on shipped pictures, into demo-out/
	"$(BIN)/guardrail" demo --out demo-out $(ARGS)

test: $(STAMP) ## run the tests (ARGS="-k name" to choose)
	OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest $(IN_TWO) $(ARGS)

lint: $(STAMP) ## style, layers between rooms, generated pages up to date
	"$(BIN)/ruff" check $(SOURCES)
	"$(BIN)/ruff" format --check $(SOURCES)
	"$(BIN)/lint-imports"
	"$(BIN)/cog" --check --diff -r -I docs docs/*.md docs/reference/*.md README.md

types: $(STAMP) ## mypy --strict
	"$(BIN)/mypy"

docs: $(STAMP) ## bring generated pages up to date and build site/, warnings are errors
	"$(BIN)/cog" -r -I docs docs/*.md docs/reference/*.md README.md
	"$(BIN)/mkdocs" build --strict

format: $(STAMP) ## mend what ruff can mend
	"$(BIN)/ruff" check --fix $(SOURCES)
	"$(BIN)/ruff" format $(SOURCES)

ci: ## everything that must pass, in a fresh environment
	.ci/run

clean: ## remove what these commands made, the environment too
	rm -rf "$(VENV)" demo-out site dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(STAMP): pyproject.toml .ci/environment.py
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "guardrail needs Python 3.11 or newer, and $(PYTHON) is not that; name another: make PYTHON=python3.12" >&2; exit 1; }
	"$(PYTHON)" .ci/environment.py "$(VENV)"
	@touch "$(STAMP)"
