# make demo     the whole of OneSearch on a simulated marketplace, then three searches
# make test     every test, with the coverage of src
# make faults   a tiny training, killed and disturbed in a dozen ways: what is lost
# make lint     style, types, layers, spelling
# make docs     the documentation as a site in site/, every link in it checked
# make slurm-test [RECIPE=configs/demo]     the pipeline on a real SLURM of two virtual nodes, with faults
# make bestbuy DATA=folder [TEST_FROM=2011-09-24]     the whole of OneSearch on the Best Buy clicks
# make amazon DATA=folder      the three SFT stages on real people's purchase sequences
#
# Each creates .venv first where it is missing or out of date. On Linux PyPI's torch brings CUDA along; for the small one:
#   make demo PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
TEST_FROM ?= 2011-09-24
BIN := .venv/bin

# Threads that wait must not spin: beside any other busy process that makes a step many times slower.
export OMP_WAIT_POLICY ?= PASSIVE
READY := .venv/.ready
READY_DOCS := .venv/.ready-docs

.DEFAULT_GOAL := help
.PHONY: help demo bestbuy amazon test faults lint docs slurm-test

help:
	@sed -n 's/^# \{0,1\}//p' Makefile

# Rebuilt when what it was built from changes. torch comes first, so that no other package's wish picks its build.
$(READY): pyproject.toml constraints-cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "onesearch needs Python 3.11 or newer: make PYTHON=python3.11")'
	@echo "Installing into .venv (some minutes, once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install -qq --disable-pip-version-check -c constraints-cpu.txt torch
	@$(BIN)/pip install -qq --disable-pip-version-check -c constraints-cpu.txt -e '.[cpu,dev]'
	@touch $@

$(READY_DOCS): $(READY)
	@$(BIN)/pip install -qq --disable-pip-version-check -c constraints-cpu.txt -e '.[docs]'
	@touch $@

demo: $(READY)
	@$(BIN)/onesearch pipeline --run runs/demo --recipe configs/demo
	@$(BIN)/onesearch compare --run runs/demo
	@$(BIN)/onesearch validate -c configs/quantizer.yaml -c configs/demo/quantizer.yaml --run runs/demo
	@$(BIN)/onesearch report --run runs/demo
	@for query in "white dress" "running shoes" "coffee cup"; do \
		$(BIN)/onesearch search "$$query" --run runs/demo || exit 1; \
	done

bestbuy: $(READY)
	@test -n "$(DATA)" || { echo "Say where the clicks lie: make bestbuy DATA=folder-of-clicks.csv-and-products.xml"; exit 2; }
	@$(BIN)/onesearch pipeline --run runs/bestbuy --recipe configs/bestbuy --data "$(DATA)" --test_from $(TEST_FROM)
	@$(BIN)/onesearch compare --run runs/bestbuy
	@$(BIN)/onesearch validate -c configs/quantizer.yaml -c configs/bestbuy/quantizer.yaml --run runs/bestbuy
	@$(BIN)/onesearch report --run runs/bestbuy

amazon: $(READY)
	@test -n "$(DATA)" || { echo "Say where the purchases lie: make amazon DATA=folder-of-Scientific.inter.json-and-Scientific.item.json"; exit 2; }
	@$(BIN)/onesearch pipeline --run runs/amazon --recipe configs/amazon --data "$(DATA)" --until sft_personalize
	@$(BIN)/onesearch compare --run runs/amazon
	@$(BIN)/onesearch validate -c configs/quantizer.yaml -c configs/amazon/quantizer.yaml --run runs/amazon
	@$(BIN)/onesearch report --run runs/amazon

test: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/pytest --cov -n 2 --dist loadfile

faults: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.faults

slurm-test: $(READY)
	@command -v slurmctld munged > /dev/null || apt-get install -y --no-install-recommends slurm-wlm munge \
		|| { echo "Install slurm-wlm and munge first, or run this as root on Debian or Ubuntu"; exit 2; }
	@$(BIN)/python tests/real_slurm.py $(if $(RECIPE),--recipe $(RECIPE))

lint: $(READY)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/shellcheck -x slurm/*.sh slurm/*.bash slurm/*.sbatch .ci/run
	@$(BIN)/codespell src tests benchmarks configs docs docker slurm *.md

docs: $(READY_DOCS)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo site/index.html
