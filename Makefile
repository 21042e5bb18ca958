# Both targets do all their own set-up: Python 3.10 or newer and make are enough.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

.PHONY: demo test lint types check clean

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[eval,rooms,onnx,web,dev]"
	touch $(READY)

demo: $(READY)   ## enhance the bundled example; writes demo_out/
	$(BIN)/python examples/demo.py --out demo_out

test: $(READY)   ## run all tests
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

check: test lint types   ## what .ci/run does

clean:
	rm -rf $(VENV) demo_out
