# make demo    everything from a clean clone to a running dashboard on real data   (PORT=8501 DATASET=demo)
# make test    everything from a clean clone to a finished test run
PYTHON ?= python3
PORT ?= 8501
DATASET ?= demo
VENV := .venv
BIN := $(VENV)/bin
PEERS := benchmarks/.venv
STAMP := $(VENV)/.installed

.PHONY: install demo test lint audit clean browser postgres benchmark-peers-env
.DEFAULT_GOAL := demo

install: $(STAMP)

# Pinned by constraints.txt. LOCKED=1 takes files with the hashes of requirements.lock alone, torch excepted. pip compiles on one core; compileall uses all of them.
$(STAMP): pyproject.toml constraints.txt $(if $(LOCKED),requirements.lock)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or later is needed: run 'make PYTHON=/path/to/python3.11'." >&2; exit 2; }
	@echo "Installing into $(VENV) (about 1 GB, 2 to 3 minutes) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(if $(LOCKED),$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --only-binary=:all: --require-hashes --requirement requirements.lock)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/python -m compileall -q -j 0 -x '/tests/' $(VENV)/lib >/dev/null 2>&1 || true
	@touch $(STAMP)
	@echo "Installed."

demo: install
	@$(BIN)/python -m dashboard.prepare --dataset $(DATASET)
	@echo "Dashboard on dataset '$(DATASET)': http://localhost:$(PORT)   (Ctrl-C stops it)"
	@MARQUEE_DATASET=$(DATASET) $(BIN)/streamlit run dashboard --server.port $(PORT) --server.headless true

test: install browser
	@$(BIN)/python -m pytest

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# Known vulnerabilities of what is installed: a report, which never fails.
audit: install
	@$(BIN)/python .ci/audit.py

# The end-to-end test clicks through the dashboard in Debian's Chromium. Where none is found and apt-get is at hand for
# root it is installed; elsewhere the test says what is missing.
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || command -v chromium-browser >/dev/null || \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "Installing chromium ..."; apt-get update -qq && apt-get install -y -qq chromium >/dev/null; \
		else echo "No chromium found: the browser test will fail until you install it (e.g. sudo apt-get install chromium)."; fi

# The tests of the event store run against SQLite and, where one is installed, a PostgreSQL server of their own.
postgres:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "Installing postgresql ..."; apt-get update -qq && apt-get install -y -qq postgresql >/dev/null; \
		else echo "No PostgreSQL server found: its tests will be skipped."; fi

# What HistoryNet is measured against wants other releases than we do, so it has an environment of its own.
benchmark-peers-env: $(PEERS)/.installed

$(PEERS)/.installed: benchmarks/peers.txt
	@echo "Installing into $(PEERS) (1.5 GB) ..."
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/peers.txt
	@touch $@
	@echo "Installed: $(BIN)/python -m benchmarks peers"

clean:
	rm -rf $(VENV) $(PEERS) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
