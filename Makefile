# make demo   train and translate on synthetic pictures (cartoon creatures that tunit draws itself), on a CPU
# make test   every check and test
# make format format the code
# make docs   the documentation site
# make bench  all measurements of speed
# make soak   stress tests for hours: killed processes, full disks, damaged files, bad input
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
CHECKED := src tests benchmarks docs/site docs/first-steps.ipynb

.PHONY: demo test lint format docs bench soak clean

demo: $(VENV)/.installed
	$(BIN)/tunit demo --overwrite $(ARGS)

# Two workers with one thread each, because threads do not help with tiny networks. Where a test asks for more, threads
# that wait sleep soon, as in the command line. The tests of a file run in the same worker, because they share trained
# models. The files start in the order of tests/conftest.py. Lint runs meanwhile.
test: $(VENV)/.installed-test
	$(MAKE) --no-print-directory lint & lint=$$!; \
	OMP_NUM_THREADS=1 GOMP_SPINCOUNT=1000 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS); tests=$$?; \
	wait $$lint || { echo "make lint failed: its output is above"; exit 1; }; exit $$tests

lint: $(VENV)/.installed-test
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-test
	$(BIN)/ruff format $(CHECKED)

# The documentation as a site with search, in build/docs/site. A broken link, or a page that no menu lists, is an error.
docs: $(VENV)/.installed-test
	$(BIN)/python docs/site/build_site.py

# Takes half an hour on an idle machine, and hours more for domains.py if its pictures are there (TUNIT_TEST_DATA). Results
# are written to benchmarks/results/. ARGS=--quick only tests that everything runs.
bench: $(VENV)/.installed-test
	for name in step packing feeding translation startup studio; do $(BIN)/python benchmarks/$$name.py $(ARGS) || exit 1; done
	$(BIN)/python benchmarks/step.py --memory $(ARGS)
	$(BIN)/python benchmarks/step.py --growth $(ARGS)
	test -z "$$TUNIT_TEST_DATA" || $(BIN)/python benchmarks/domains.py $(ARGS)
	$(BIN)/python benchmarks/chart.py

# The stress tests of which make test runs a minute. Prints a line for each promise of docs/reliability.md, and writes the
# figures as JSON. ARGS="--scale 0.1" takes a tenth. If atheris has no wheel for this Python, bad input is made without it.
soak: $(VENV)/.installed-test
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check "atheris>=3"
	OMP_NUM_THREADS=1 PYTHONPATH=tests:src $(BIN)/python -m soak --out benchmarks/results/soak.json $(ARGS)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v in ((3, 11), (3, 12), (3, 13)) else "tunit needs Python 3.11, 3.12 or 3.13, this is %d.%d: call make PYTHON=python3.11" % v)'
	$(PYTHON) -m venv $(VENV)

# torch first and separately, so that no other package installs another build of it.
$(VENV)/.torch: | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "torch>=2.11,<2.14"
	touch $@

$(VENV)/.installed: pyproject.toml $(wildcard src/tunit/native/*.[ch]) $(VENV)/.torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[studio]"
	touch $@

# What the tests need includes all that the demo needs.
$(VENV)/.installed-test: pyproject.toml $(wildcard src/tunit/native/*.[ch]) $(VENV)/.torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test]"
	touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache src/tunit/native/*.so
