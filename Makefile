# fusion-cluster: every target works from a bare checkout with Python 3.11+ and make; the virtual environment makes itself.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SECONDS ?=
TESTS ?=
PARTS ?=
SEED ?=
SEEDS ?= 3
JOBS ?= 2
THOROUGH ?=

export RAY_AUTH_MODE ?= disabled
export RAY_worker_niceness ?= 0
export RAY_USAGE_STATS_ENABLED ?= 0
# What a process compiles, the next finds: tests, demo and load start hundreds of processes.
export PYTHONDONTWRITEBYTECODE :=
export THOROUGH

.PHONY: help install native demo test simulate shuffle lint bench load proto k8s clean
help:            ## what can be made
	@grep -hE '^[a-z0-9]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

install: native  ## the virtual environment with all that the targets need
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; say make PYTHON=/path/to/python3.11") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (about two minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' 2> $(VENV)/install.log || { cat $(VENV)/install.log; exit 1; }
	@touch $@

# The graph's hit path in C, built again whenever its source has changed; says so where it cannot be built.
native: $(STAMP)
	@$(BIN)/python hatch_build.py

demo: native     ## replay a day of real flights through 2 shards and a gateway; SECONDS=20 stops by itself
	@$(BIN)/python -m examples.flights.demo $(if $(SECONDS),--seconds $(SECONDS))

test: native     ## all the tests, in parts, 12 minutes; TESTS=tests/unit, PARTS=pure, SEED=7, THOROUGH=1
	@$(BIN)/python -m tools.gate $(if $(PARTS),--parts $(PARTS)) $(if $(SEED),--seed $(SEED)) $(TESTS)

simulate: native ## whole clusters in simulation, with faults: SEEDS=1000 JOBS=2; SEED=7 repeats one and makes it smaller
	@$(BIN)/python -m fusion_router.simulation $(if $(SEED),--seed $(SEED),--seeds $(if $(filter command,$(origin SEEDS)),$(SEEDS),1000) --jobs $(JOBS))

shuffle: native  ## all the tests in other orders, which show whether one needs another; SEEDS=3
	@for seed in $$(shuf -i 1-9999999 -n $(SEEDS)); do $(MAKE) --no-print-directory test PARTS=all SEED=$$seed || exit 1; done

lint: $(STAMP)   ## format, style, types, import contracts, generated code
	@PATH="$(abspath $(BIN)):$$PATH" tools/lint

bench: native    ## all the benchmarks, each against its reference in the same run; tables and plots into docs/
	@mkdir -p out && $(BIN)/python -m benchmarks --json out/benchmarks.json
	@$(BIN)/python -m benchmarks.tables out/benchmarks.json docs/performance.md
	@$(BIN)/python -m benchmarks.plot out/benchmarks.json docs

load: native     ## locust against a local cluster; SECONDS=30
	@$(BIN)/python -m loadtest $(if $(SECONDS),--seconds $(SECONDS))

proto: $(STAMP)  ## regenerate fusion_cluster/v1 from proto/
	@PATH="$(abspath $(BIN)):$$PATH" tools/generate-proto .

k8s: $(STAMP)    ## render the Kubernetes manifests offline and validate them
	@$(BIN)/python -m k8s.validate

clean:           ## remove what the targets made, the virtual environment too
	@rm -rf $(VENV) .venv-3.* fusion_cluster/graph/core/*.so out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
