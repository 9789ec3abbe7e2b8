# Two commands for a new user: `make demo` and `make test`. Both create .venv when it is missing.
# PYTHON=python3.12 make demo   chooses the interpreter; VENV=... the environment's folder.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.10 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CODE := stereo teacher student distill calibration deploy tests benchmarks

.PHONY: demo test test-slow lint format clean

demo: $(STAMP)
	$(BIN)/stereodistill demo

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not gpu and not jetson"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m "slow and not gpu and not jetson"

lint: $(STAMP)
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/deploy/test_torch_free.py tests/stereo/test_bare_imports.py

format: $(STAMP)
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 12) else "Python 3.10 to 3.12 is needed, this is %d.%d: set PYTHON=python3.11" % v)'
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "Python has no venv module: apt install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/python -c 'import cv2' || { echo "OpenCV needs system libraries: apt install libgl1 libglib2.0-0"; exit 2; }
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs build *.egg-info
