# Two commands: `make run` serves, `make test` tests; each sets up all it needs below .venv first. `make help` has the rest.

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8888
# options of the plugin for `make run`, as ARGS="--broker=redis"
ARGS ?=
# how long `make soak` takes
MINUTES ?= 10
# the size of `make crowd`
COUNT ?= 60000
WORKERS ?= 4
# what `make test` runs, as T=tests/unit, and by what it needs, as M="not browser"; and how many tests at a time
T ?=
M ?= not slow
N ?= 3

BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --use-pep517 --no-deps

.PHONY: help run test unit cover lint format check hooks docs bench soak crowd dist lock clean

help:
	@echo 'make run    serve on 127.0.0.1:8888 with the demo page    (PORT=9000 ARGS="--broker=redis")'
	@echo 'make test   set up everything, then run all tests but the slow ones   (T=tests/unit M="redis or rabbitmq" M=slow N=1)'
	@echo 'make unit   run the unit tests, in about a minute'
	@echo 'make cover  run the unit tests, and list the lines that they do not run'
	@echo 'make lint   run ruff and mypy'
	@echo 'make format let ruff fix what it can'
	@echo 'make check  run everything that a commit must pass, as .ci/run does'
	@echo 'make hooks  make git run the linters before each commit'
	@echo 'make docs   write the pages and pictures that are generated from the source'
	@echo 'make bench  measure the server and write BENCHMARK.md     (minutes; ARGS=--quick, ARGS="--only=storm")'
	@echo 'make soak   cut off clients for minutes, and count lost events   (MINUTES=10 ARGS="--restart=30 --broker=redis-stream")'
	@echo 'make crowd  connect 60,000 clients, and replace a worker  (COUNT=60000 WORKERS=4 ARGS="--broker=redis-stream")'
	@echo 'make dist   build a wheel, an sdist, and a single executable file, in dist/'
	@echo 'make lock   pin the newest versions in requirements*.txt'
	@echo 'make clean  remove what these commands have made'

# The stamp files make a second run start at once; a changed lock installs again.
$(VENV)/.runtime: requirements.txt pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'cyclone-sse needs Python 3.11 or newer: make PYTHON=/path/to/python3'; exit 1; }
	@echo 'Setting up $(VENV), once ...'
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo 'python3 cannot make a venv: apt install python3-venv'; exit 1; }
	@$(INSTALL) -r requirements.txt
	@$(INSTALL) --editable . # setup.py fetches cyclone
	@touch $@

# carbon would install itself below /opt/graphite without GRAPHITE_NO_PREFIX; and each twistd of a test would load its
# plugins, which is a fifth of the time that a start takes: they are put where tests/harness/servers.py finds them.
$(VENV)/.tests: requirements-test.txt $(VENV)/.runtime
	@echo 'Installing the test tools, once ...'
	@GRAPHITE_NO_PREFIX=True $(INSTALL) -r requirements-test.txt
	@mkdir -p $(VENV)/carbon/twisted/plugins
	@find $(VENV)/lib -path '*/twisted/plugins/carbon_*.py' -exec mv {} $(VENV)/carbon/twisted/plugins/ ';'
	@touch $@

run: $(VENV)/.runtime
	@echo "Subscribe:  curl -N 'http://127.0.0.1:$(PORT)/?channels=base'"
	@echo "Publish:    curl -X POST -d 'message=%5B123%2C+124%5D&channel=base' http://127.0.0.1:$(PORT)/publish"
	@echo "Demo page:  http://127.0.0.1:$(PORT)/demo"
	@exec $(BIN)/python -m cyclone_sse --port=$(PORT) --demo=1 $(ARGS)

test: $(VENV)/.tests
	@tests/prepare
	@$(BIN)/python -m pytest -m '$(M)' -n $(N) --dist worksteal $(T)

unit: $(VENV)/.tests
	@$(BIN)/python -m pytest -q -m 'not slow' -n $(N) tests/unit

cover: $(VENV)/.tests
	@$(BIN)/python -m pytest -q --cov=cyclone_sse --cov-branch --cov-report=term-missing:skip-covered $(or $(T),tests/unit)

lint: $(VENV)/.tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.tests
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

check:
	@.ci/run

# The hooks call `make lint`'s own tools, so that no second place has their versions.
hooks: $(VENV)/.tests
	@$(BIN)/pre-commit install

docs: $(VENV)/.runtime
	@$(BIN)/python -m tools.options_page > docs/options.md
	@$(BIN)/python -m tools.option_samples
	@$(BIN)/python -m tools.layer_picture > docs/architecture.svg
	@$(BIN)/python -m tools.plain_module

bench: $(VENV)/.tests
	@$(BIN)/python -m bench $(ARGS)

soak: $(VENV)/.tests
	@$(BIN)/python -m bench.soak --minutes=$(MINUTES) $(ARGS)

crowd: $(VENV)/.tests
	@$(BIN)/python -m bench.crowd --count=$(COUNT) --workers=$(WORKERS) --output=BENCHMARK.md $(ARGS)

dist: $(VENV)/.tests
	@rm -rf build dist
	@$(BIN)/python -m build > /dev/null
	@$(BIN)/python -m tools.single_file dist
	@rm -rf build cyclone_sse.egg-info
	@ls dist/*

lock: $(VENV)/.runtime
	@$(INSTALL) uv
	@UV_CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	  pyproject.toml -o requirements.txt
	@UV_CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	  --no-emit-package pip --no-emit-package setuptools \
	  -c requirements.txt requirements-test.in -o requirements-test.txt

clean:
	rm -rf $(VENV) .venv-3.* build dist cyclone_sse/vendored *.egg-info bench/bin tests/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -f twisted/plugins/dropin.cache
