# Two commands: `make run` serves the example cells, `make test` passes the tests.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PORT   ?= 8080

.PHONY: run test lint bench autobahn wasi-testsuite chaos fuzz setup dev guests clean
.DEFAULT_GOAL := run

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Pulp needs Python 3.11 or newer; try: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --group dev
	touch $@

setup: $(VENV)/.ready ## make .venv with the command in .venv/bin/pulp

dev: $(VENV)/.ready-dev ## add what tests, lint and benchmarks need (compilers too: 600 MB)

run: setup ## serve the example cells on port 8080 (Ctrl-C stops)
	$(BIN)/pulp run examples/echo/c examples/heartbeat/c examples/calls/prices examples/calls/shop examples/todo/c \
		examples/guestbook/c examples/hits/zig examples/chatroom/c --http-port $(PORT)

test: dev ## the whole suite
	$(BIN)/pytest -n 2 --dist loadgroup

lint: dev ## format, style, types, floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: dev ## measure against peers in the same run (some minutes; each is also a command of its own)
	$(BIN)/python -m benchmarks.http_echo
	$(BIN)/python -m benchmarks.crossing
	$(BIN)/python -m benchmarks.tls
	$(BIN)/python -m benchmarks.websocket
	$(BIN)/python -m benchmarks.sse
	$(BIN)/python -m benchmarks.outbound
	$(BIN)/python -m benchmarks.files
	$(BIN)/python -m benchmarks.sqlite
	$(BIN)/python -m benchmarks.kv
	$(BIN)/python -m benchmarks.udp
	$(BIN)/python -m benchmarks.wasi
	$(BIN)/python -m benchmarks.functions
	$(BIN)/python -m benchmarks.kv_files
	$(BIN)/python -m benchmarks.blobs
	$(BIN)/python -m benchmarks.frames

autobahn: dev ## every case of Autobahn|Testsuite, with a Python 2.7 (ten minutes)
	$(BIN)/python scripts/autobahn.py

wasi-testsuite: dev ## the programs of wasi-testsuite in $$WASI_TESTSUITE, through pulp exec
	$(BIN)/python scripts/wasi_testsuite.py

chaos: dev ## fifty cells, and everything that can go wrong at once, for ten minutes
	PULP_CHAOS_SECONDS=600 $(BIN)/pytest tests/e2e/test_chaos.py -s -p no:randomly

fuzz: dev ## a million hostile inputs over every host import and decoder
	$(BIN)/python -m tests.fuzz --cases 1000000

guests: dev ## rebuild every committed .wasm from its source
	$(BIN)/python scripts/guests.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis data
