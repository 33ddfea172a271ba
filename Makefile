# `make` alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help venv demo check test test-long test-lowest bench bench-wire docs constraints clean

BIN := .venv/bin
PROJECTS := pyproject.toml $(wildcard plugins/*/pyproject.toml examples/*/pyproject.toml)
EDITABLE := $(foreach p,$(filter-out pyproject.toml,$(PROJECTS)),-e $(patsubst %/pyproject.toml,./%,$(p)))
# The version that constraints.txt holds; three equal signs wherever it is pinned, because two may
# choose a local CPU build, with which torchvision's operators are missing.
TORCH := 2.13.0
# Whatever python3 is comes last: it may be 3.14, which TorchScript does not support.
PYTHONS := python3.13 python3.12 python3.11 python3
# What eipack's accelerator is measured against; the versions lie in constraints-rivals.txt.
RIVALS := grpcio grpcio-tools httptools nvidia-pytriton orjson pyzmq uvicorn uvloop
# Two workers of one torch thread each, so that threads never outnumber two cores.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 bin/pytest -n $(WORKERS) --dist loadscope

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export NO_MKDOCS_2_WARNING := true

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-21s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: .venv/.installed ## create .venv with eipack, every plugin and every tool (5 GB, some minutes)

demo: .venv/.installed ## walk through the whole journey on this machine
	@$(BIN)/eipack demo

check: .venv/.installed ## lint, formatting, types and documentation
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy --strict --no-error-summary
	@$(BIN)/mkdocs build --strict --quiet
	@echo "check: ruff, mypy and mkdocs are content"

test: .venv/.installed ## run the tests
	@$(PYTEST:bin/%=$(BIN)/%)

test-long: .venv/.installed ## run the tests that take minutes each
	@$(BIN)/pytest -m long

test-lowest: .venv-lowest/.installed ## run the tests on the lowest versions that eipack claims to support
	@$(PYTEST:bin/%=.venv-lowest/bin/%)

bench: .venv/.installed ## measure the README's figures
	@$(BIN)/python -m benchmarks

bench-wire: .venv/.installed build/rivals/.installed ## measure the accelerator's wire beside its rivals
	@$(BIN)/python -m benchmarks.wire

docs: .venv/.installed ## serve the documentation on this machine
	@$(BIN)/mkdocs serve

constraints: ## renew constraints.txt and constraints-lowest.txt from two fresh installs
	@rm -rf .venv .venv-lowest && mkdir -p build
	@echo 'torch===$(TORCH)' > build/newest.txt
	@$(call install,.venv,build/newest.txt,docs$(comma)lint)
	@{ $(call freeze,.venv); } > constraints.txt && touch .venv/.installed
	@$(BIN)/python .ci/lower_bounds.py > build/lowest.txt
	@$(call install,.venv-lowest,build/lowest.txt,test)
	@{ $(call freeze,.venv-lowest); } > constraints-lowest.txt && touch .venv-lowest/.installed

clean: ## remove the environments and everything built
	@rm -rf .venv .venv-lowest .mypy_cache .pytest_cache .ruff_cache build dist site demo

.venv/.installed: constraints.txt $(PROJECTS)
	@$(call install,.venv,constraints.txt,docs$(comma)lint)

.venv-lowest/.installed: constraints-lowest.txt $(PROJECTS)
	@$(call install,.venv-lowest,constraints-lowest.txt,test)

# What cannot be installed is a row that says so.
build/rivals/.installed: constraints-rivals.txt
	@echo "installing into build/rivals (400 MB, a minute or two the first time)"
	@$(BIN)/python -m venv --clear build/rivals
	@build/rivals/bin/pip install --quiet --constraint $< $(RIVALS) && touch $@ || \
		echo "make: not every rival could be installed; their rows will say so" >&2

# test-serving, and test-serving-NAME for each framework
include plugins/eipack-serving/environments.mk

comma := ,
# $(call install,environment,constraints,further extras): the stamp is what keeps a second make from installing again.
define install
	for python in $(PYTHONS) none; do \
		$$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	done; \
	if [ $$python = none ]; then \
		echo "make: eipack needs Python 3.11 or newer with the venv module on the PATH, and none was found" >&2; exit 1; \
	fi; \
	echo "installing into $(1) with $$($$python --version) (about 5 GB, some minutes the first time)"; \
	$$python -m venv $(1) && \
	$(1)/bin/pip install --quiet --constraint $(2) hatchling editables && \
	$(1)/bin/pip install --quiet --constraint $(2) --no-build-isolation \
		-e '.[all,test,$(3)]' $(EDITABLE) && \
	touch $(1)/.installed
endef

# $(call freeze,environment): the environment as constraints; torch needs its CUDA packages on one platform only.
define freeze
	echo '# Written by `make constraints`.'; \
	$(1)/bin/pip freeze --all --exclude-editable --exclude pip | sed -E \
		-e 's/^torch==/torch===/' \
		-e '/^(cuda-|nvidia-|triton==)/s/$$/ ; sys_platform == "linux" and platform_machine == "x86_64"/'
endef
