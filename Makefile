# Every target runs in .venv, which is made anew when the requirements change. ARGS="…" is passed on.
PYTHON ?= python3
BIN := .venv/bin

# Where this is set, each worker would compile the package again; pip compiles the rest at install.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help cases test fuzz known-regressions teeth quiet chaos bench lint format clean

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 28

cases: .venv/.installed  ## measure and judge the matrix: the main job
	$(BIN)/harness run --jobs auto $(ARGS)

test: .venv/.installed  ## test the harness itself
	$(BIN)/python -m pytest -n auto tests $(ARGS)

fuzz: .venv/.installed  ## change stored files in ten thousand ways, and see that every reader tells
	$(BIN)/python -m tests.fuzz $(ARGS)

known-regressions: .venv/.installed  ## ask upgrades that are known to have changed numbers (many minutes)
	$(BIN)/python -m tests.known_regressions $(ARGS)

teeth: .venv/.installed  ## plant faults in the ports, and say how many are caught
	$(BIN)/harness teeth --jobs 2 $(ARGS)

quiet: .venv/.installed  ## ask clean cells again and again, and say how often one is red
	$(BIN)/harness quiet --jobs 2 --also "transformers==5.19.0 transformer-lens==4.3.0" $(ARGS)

chaos: .venv/.installed  ## end, hang, stop and starve runs at random moments, and say what is lost
	$(BIN)/python -m tests.chaos $(ARGS)

bench: .venv/.installed  ## say what the harness itself costs, beside its targets
	$(BIN)/python -m tests.bench $(ARGS)

lint: .venv/.installed  ## check style, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: .venv/.installed  ## mend what the tools can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:  ## remove caches and build output; runs, baselines and .venv stay
	rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find harness cases tests -name __pycache__ -prune -exec rm -rf {} +

# constraints.txt holds the releases that the matrix is measured with, so that numbers are comparable.
.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, because constraints.txt pins transformers 5.23.0, which needs it; found " + sys.version.split()[0] + ".\nNext: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@
