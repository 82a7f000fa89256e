# Two commands are all that a new user needs: `make compare` and `make test`.
PYTHON ?= python3
VENV ?= .venv
OLDEST ?= .venv-oldest
ARGS ?=
JOBS ?= 2

.PHONY: help compare test test-all lint test-oldest notebook bench clean

help:
	@echo "make compare      compare the basic optimizers on real data (ARGS='--list' and more)"
	@echo "make test         lint, types, then the tests that take minutes"
	@echo "make test-all     all tests, with XLA as users have it; needs Chromium"
	@echo "make test-oldest  the tests with the oldest JAX that is supported"
	@echo "make bench        ratios of time and memory beside Optax"
	@echo "make notebook     execute the notebooks in place"

compare: $(VENV)/compare
	$(VENV)/bin/gradtx compare $(ARGS)

test: lint
	$(VENV)/bin/python -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

test-all: lint $(VENV)/neighbours
	GRADTX_TEST_XLA="as it is" $(VENV)/bin/python -m pytest -n $(JOBS) --dist loadgroup \
		-m "slow or not slow" $(ARGS)

lint: $(VENV)/test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

test-oldest: $(OLDEST)/test
	$(OLDEST)/bin/python -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

bench: $(VENV)/test
	$(VENV)/bin/python -m benchmarks $(ARGS)
	$(VENV)/bin/python -m benchmarks.searches
	$(VENV)/bin/python -m benchmarks.minima
	$(VENV)/bin/python -m benchmarks.mesh

notebook: $(VENV)/test
	$(VENV)/bin/jupyter nbconvert --to notebook --execute --inplace notebooks/*.ipynb

clean:
	rm -rf $(VENV) $(OLDEST) .cache

$(VENV)/compare: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable ".[compare]"
	@touch $@

$(VENV)/test: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable ".[test]"
	@touch $@ $(VENV)/compare

$(VENV)/neighbours: $(VENV)/test
	$(VENV)/bin/python -m pip install --quiet --editable ".[test,neighbours]"
	@touch $@

# The oldest releases that pip can put together with the oldest JAX.
$(OLDEST)/test: pyproject.toml tests/oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --editable ".[test]" --constraint tests/oldest.txt
	@touch $@
