# Each target is a line or two that calls a tool. `make` builds everything, `make test` checks it.
PYTHON ?= $(or $(shell command -v python3.11),$(shell command -v python3))
ifeq ($(strip $(PYTHON)),)
$(error python3 is missing: install Python 3.11 or newer, then run make again)
endif
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: all setup test lab book release sample notebooks bench mutants weights style clean

all: setup
	@$(BIN)/autograder all

setup:
	@"$(PYTHON)" autograder/bootstrap.py

test:
	@"$(PYTHON)" autograder/bootstrap.py --tests
	@$(BIN)/python -m pytest -n 2

lab: setup
	@$(BIN)/jupyter lab

book release sample notebooks bench: setup
	@$(BIN)/autograder $@

mutants weights: setup
	@$(BIN)/autograder $@ $(P)

style: setup
	@$(BIN)/ruff check --fix && $(BIN)/ruff format

clean:
	rm -rf _build .venv
