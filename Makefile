# Two commands to know: `make grade` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: grade test lab verify bench clean
grade: $(STAMP)
	$(BIN)/autograder grade tests/sample_class --out results/sample_class --format text --format html

test: $(STAMP)
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

lab: $(STAMP)
	JUPYTER_CONFIG_PATH=$(CURDIR)/lib/etude $(BIN)/jupyter lab --ServerApp.root_dir=assignments

verify: $(STAMP)
	$(BIN)/autograder verify

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[staff,dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) results
