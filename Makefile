# Everything runs in .venv, made on first use. `make demo` and `make test` are the two to know.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/.installed
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
SOURCES := kubesight components pipelines tests .ci

.PHONY: demo test test-slow lint licences bench clean

demo: $(INSTALLED)
	$(BIN)/kubesight demo

test: $(INSTALLED)
	$(PYTEST) -n 2 --dist worksteal

test-slow: $(INSTALLED)
	$(PYTEST) -m slow

lint: $(INSTALLED) licences
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

# Only packages that may be shipped under Apache-2.0's terms beside this one.
licences: $(INSTALLED)
	$(BIN)/pip-licenses --from=all --format=json | $(BIN)/python .ci/licences.py

bench: $(INSTALLED)
	@set -e; for script in tests/benchmarks/bench_*.py; do \
		echo "== $$script"; OMP_NUM_THREADS=2 $(BIN)/python $$script; \
	done

clean:
	rm -rf .venv build demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	@echo "Installing into .venv: some minutes, several gigabytes."
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[torch,tensorflow,pipelines,tuning,dev]"
	touch $@
