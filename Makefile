# The commands of this project; CI runs the same. `make help` lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup data run test slow check format bench peers serve thin lock clean

VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= examples/digits/config.yaml
NAME = $(notdir $(patsubst %/,%,$(dir $(CONFIG))))
PYTHON ?=
PYENV_PYTHONS = "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.11*/bin/python

DATA := examples/digits/data/digits.csv \
        examples/hospitals/data/hospitals.csv \
        examples/seed_mlp/data/clients.parquet
FOLDERS := $(shell find components pipeline serving -type d -not -name __pycache__)

help: ## list the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.editable $(DATA) ## make .venv with everything in it, and write the examples' data

data: $(DATA) ## write the examples' data

run: setup ## run the main job on real data (CONFIG=examples/.../config.yaml for another)
	$(BIN)/privet run $(CONFIG)

test: setup ## run the tests, two files at a time
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

slow: setup ## run the tests that take long: those marked slow
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

check: setup ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## apply what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: export PRIVET_PFL_PYTHON ?= $(wildcard $(abspath $(VENV)-peers/bin/python))
bench: export PRIVET_TFLITE_PYTHON ?= $(wildcard $(abspath $(VENV)-tflite/bin/python))
bench: setup ## run all benchmarks
	@for benchmark in benchmarks/*.py; do \
	  case $$benchmark in */_*) continue ;; esac; \
	  echo "$$benchmark" >&2; $(BIN)/python $$benchmark --json || exit 1; done

peers: setup ## install pfl-research beside Privet, for `make bench` to compare with (about 6 GB)
	@$(BIN)/python -m venv $(VENV)-peers
	@$(VENV)-peers/bin/python -m pip install --quiet --disable-pip-version-check \
	  -r benchmarks/peers/requirements.txt

serve: setup ## serve what `make run` pushed, on http://127.0.0.1:8501
	$(BIN)/privet serve --model_name=$(NAME) --model_base_path=runs/$(NAME)/serving/$(NAME)

# What an earlier build left in build/ would be installed too, files that are gone since as well.
thin: $(VENV)-tflite/bin/python ## make .venv-tflite, which serves without TensorFlow (114 MB)
	@$< -m pip install --quiet --disable-pip-version-check \
	  --no-deps --require-hashes -r requirements-tflite.txt
	@rm -rf build
	@$< -m pip install --quiet --disable-pip-version-check --no-deps .

lock: $(VENV)/.installed ## write requirements*.txt with hashes out of requirements*.in
	$(BIN)/python scripts/lock.py

clean: ## remove everything that was made
	rm -rf $(VENV) $(VENV)-peers $(VENV)-tflite build dist *.egg-info runs examples/*/data
	find . -name __pycache__ -prune -exec rm -rf {} +

# A Python 3.11 that can make virtual environments, wherever it is. Whatever PYTHON names wins.
$(VENV)/bin/python $(VENV)-tflite/bin/python: %/bin/python:
	@for python in $(PYTHON) python3.11 python3 $(PYENV_PYTHONS); do \
	  if "$$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info[:2] != (3, 11))' \
	      >/dev/null 2>&1; then \
	    echo "Making $* with $$("$$python" --version) ($$python)"; \
	    "$$python" -m venv $* && exit 0; \
	    rm -rf $*; exit 1; \
	  fi; \
	done; \
	echo "Privet needs Python 3.11 with venv (Debian: apt-get install python3.11-venv; or pyenv" \
	  "install 3.11): none of python3.11, python3 or pyenv's has it. PYTHON=/path/to/python3.11" \
	  "names another." >&2; exit 1

$(VENV)/.installed: $(VENV)/bin/python requirements.txt requirements-dev.txt
	@echo "Installing the pinned packages (about 3 GB on disk; some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --no-deps --ignore-requires-python --require-hashes -r requirements.txt -r requirements-dev.txt
	@touch $@

# Depends on the folders: a new file must be linked into the strict editable install.
$(VENV)/.editable: $(VENV)/.installed setup.py setup.cfg pyproject.toml $(FOLDERS)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --no-deps --no-build-isolation --editable .
	@touch $@

$(DATA): | $(VENV)/.editable
$(DATA): examples/partition.py
examples/digits/data/digits.csv: examples/digits/make_data.py
	@$(BIN)/python $<
examples/hospitals/data/hospitals.csv: examples/hospitals/make_data.py
	@$(BIN)/python $<
examples/seed_mlp/data/clients.parquet: examples/seed_mlp/make_data.py
	@$(BIN)/python $<
