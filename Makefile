# make reproduce: everything from nothing to results/tables and results/figures.  make test: checks and tests.
# make estimate CONFIGS="config/paper.yaml config/gpu.yaml": what a run will cost on this machine.
# make docs: the documentation as a site, in site/.
PYTHON ?= python3
CORES ?= all
VENV := .venv
BIN := $(VENV)/bin
# Modules are compiled as they are first imported (most never are) and kept so, whatever the caller's habit is.
export PYTHONDONTWRITEBYTECODE :=
export NO_MKDOCS_2_WARNING := 1
INSTALL := $(BIN)/pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt

.PHONY: reproduce estimate test types tests docs clean

reproduce: $(VENV)/.ready
	$(BIN)/snakemake --cores $(CORES)

estimate: $(VENV)/.ready
	$(BIN)/python -m partialres estimate $(CONFIGS) --out results/estimate.json

# The type checker and the documentation use a core each, so they run beside the tests.
test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --jobs --keep-going types docs tests

types: $(VENV)/.test
	$(BIN)/mypy

tests: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

docs: $(VENV)/.test
	$(BIN)/mkdocs build --strict

# Rebuilt whenever what it is made of changes; the mark is set last, so that a broken installation is tried again.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV) || (echo "The venv module is missing: sudo apt install python3-venv" >&2; exit 1)
	$(INSTALL) --editable .
	touch $@

$(VENV)/.test: $(VENV)/.ready
	$(INSTALL) --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) .snakemake
