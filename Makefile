# Each target sets up what it needs. On a fresh machine: Python 3.11 to 3.13, gcc, make and a package registry.

# The Pythons that have been tested, each with its exact set of packages in constraints/; the newest one that runs here
# makes .venv, or the one that you name: make test PYTHON=/usr/bin/python3.12
TESTED := $(shell ls constraints | sed -n 's/^\(3\..*\)\.txt$$/\1/p' | sort -rV)
PYTHON ?= $(or $(shell for v in $(TESTED); do python$$v -c 'import ensurepip, venv' 2>/dev/null && { echo python$$v; break; }; done),python3)
version = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV := .venv
BIN := $(VENV)/bin
# setuptools warns of every editable install; nothing in it is news
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip
export CACL_CACHE ?= $(CURDIR)/.cache

.PHONY: help demo demo-sweep test fuzz soak test-gpu test-slow test-faults test-network test-slurm install-slurm test-programs test-mutants test-device test-ray test-container \
	reproduce reproduce-labels reproduce-varied reproduce-mixing reproduce-taggers bench bench-pack docs docs-links \
	test-lowest test-debian13 constraints setup lint clean named-python

help: ## show the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

demo: $(VENV)/.demo ## the main job end to end on real photographs and sounds, ends with a report
	@$(BIN)/cacl demo

demo-sweep: $(VENV)/.all ## a sweep over temperature and batch size on a few hundred clips
	@$(BIN)/cacl pack stamps --clips 480 --out data/sweep/train || \
		$(BIN)/cacl pack generated --clips 480 --out data/sweep/train
	@$(BIN)/cacl pack stamps --clips 120 --seed 1 --out data/sweep/validation || \
		$(BIN)/cacl pack generated --clips 120 --seed 1 --out data/sweep/validation
	@$(BIN)/cacl label data/sweep/train
	@$(BIN)/cacl sweep launch/recipes/demo.yaml --space launch/spaces/demo.yaml --out runs/sweep --resume

test: $(VENV)/.all ## the tests that CI runs
	@$(BIN)/python -m pytest

test-lowest: ## the same with the oldest libraries that pyproject.toml allows, torch 2.9 among them
	@$(MAKE) --no-print-directory test VENV=.venv-lowest SET=lowest $(if $(filter file,$(origin PYTHON)),PYTHON=python3.11)

test-debian13: $(VENV)/.all ## `make demo` and `make test` on a bare Debian 13 (root: apt installs buildah and mmdebstrap)
	@$(call apt,buildah mmdebstrap,buildah mmdebstrap)
	@$(BIN)/python -m pytest -m debian13 -s

test-gpu: ## every path of a GPU, by $(BIN)/python or python3 as it is: installs nothing, needs no network
	@$(or $(wildcard $(BIN)/python),python3) -m pytest -m gpu tests/gpu

test-slow: $(VENV)/.all ## the tests that take minutes
	@$(BIN)/python -m pytest -m slow

test-faults: $(VENV)/.all ## kills, hangs, full disks and a soak under random kills
	@$(BIN)/python -m pytest -m faults

fuzz: $(VENV)/.all ## ten thousand changed files of each format: writes docs/reliability.md
	@$(BIN)/python -m tests.fuzz --write docs/reliability.md

soak: $(VENV)/.all ## work under kills, signals and full disks, in pieces: writes docs/reliability.md (root)
	@$(BIN)/python -m tests.soak --write docs/reliability.md

test-network: $(VENV)/.all ## two network namespaces as two nodes, the link cut in a step (root)
	@$(call apt,ip,iproute2)
	@$(BIN)/python -m pytest -m network

test-slurm: $(VENV)/.all install-slurm ## the job scripts on a real SLURM (root: apt installs slurm-wlm and munge)
	@$(BIN)/python -m pytest -m slurm

install-slurm:
	@$(call apt,slurmctld ip,slurm-wlm munge iproute2)

test-programs: install-slurm ## Debian's programs without which `make test` skips a few tests (root)
	@$(call apt,ffmpeg chromium,ffmpeg chromium)

test-mutants: $(VENV)/.all ## break the code in many places, one at a time, and see that tests notice
	@$(BIN)/python -m tests.mutants

test-device: $(VENV)/.all ## every part on a pretended GPU; each `device=` left out in turn, and found
	@$(BIN)/python -m pytest -m device

test-ray: $(VENV)/.all ## sweeps with Ray Tune, killed and restored
	@$(BIN)/python -m pytest -m ray

test-container: $(VENV)/.all ## the images, built and run (root: apt installs buildah and mmdebstrap)
	@$(call apt,buildah mmdebstrap,buildah mmdebstrap)
	@$(BIN)/python -m pytest -m container

# $(call apt,PROGRAMS,PACKAGES): as root, install Debian packages where a program is missing
apt = which $(1) >/dev/null || [ "$$(id -u)" != 0 ] || \
	{ apt-get update -qq && apt-get install -qq -y --no-install-recommends $(2); }

reproduce: $(VENV)/.all ## the paper's tables in miniature: writes docs/results.md (2.5 hours on 2 cores)
	@$(BIN)/python -m benchmarks.reproduce

reproduce-varied: $(VENV)/.all ## class awareness where a class has instances, kinds of label error
	@$(BIN)/python -m benchmarks.varied_study

reproduce-mixing: $(VENV)/.all ## scenes and real films in one training: writes the study in docs/mixing.md
	@$(BIN)/python -m benchmarks.mixing_study

reproduce-taggers: $(VENV)/.all ## a pretrained tagger as source of labels and as sound network: writes docs/labels.md (50 minutes)
	@$(BIN)/python -m benchmarks.tagger_study

reproduce-labels: $(VENV)/.all ## trainings on labels of every kind: writes the study in docs/labels.md
	@$(BIN)/python -m benchmarks.label_study

bench-pack: $(VENV)/.all ## packing against one ffmpeg process a clip (installs Debian's ffmpeg)
	@command -v ffmpeg >/dev/null || { sudo=$$(command -v sudo || true); $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends ffmpeg; }
	@$(BIN)/python -m benchmarks.pack --json

bench: $(VENV)/.all test-programs ## every benchmark on a quiet machine: writes docs/benchmarks.md and what quotes it
	@$(BIN)/python -m benchmarks

# The notebook is executed, internal links are checked, and every warning is an error.
docs: $(VENV)/.all ## the manual, into build/docs/html
	@OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -E -W --keep-going -q -b html docs build/docs/html && echo build/docs/html/index.html

docs-links: $(VENV)/.all ## the links of the manual to other sites (needs the network)
	@$(BIN)/python -m sphinx -q -b linkcheck -D nb_execution_mode=off docs build/docs/links

lint: $(VENV)/.all ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

setup: $(VENV)/.all ## the full environment in .venv

refuse = { echo "$(1)" >&2; exit 2; }

$(BIN)/python:
	@[ -e "constraints/$(call version,$(PYTHON)).txt" ] || $(call refuse,$(PYTHON) is none of the Pythons that cacl is tested on: $(TESTED). Name one: make PYTHON=/path/to/python)
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	$(PIP) install --quiet --upgrade pip

# Where a Python is named and .venv is of another one: make by itself would take what is there.
named-python:
ifneq ($(origin PYTHON),file)
	@[ ! -e $(VENV) ] || [ "$(call version,$(BIN)/python)" = "$(call version,$(PYTHON))" ] || $(call refuse,$(VENV) is not of $(PYTHON). Remove it first: rm -r $(VENV))
endif

$(VENV)/.demo: $(BIN)/python pyproject.toml $(wildcard constraints/*.txt) | named-python
	@echo "setting up $(VENV): about 5 GB of packages"
	$(PIP) install --constraint constraints/$(or $(SET),$(call version,$(BIN)/python)).txt --editable '.[demo]'
	@touch $@

$(VENV)/.all: $(BIN)/python pyproject.toml $(wildcard constraints/*.txt) | named-python
	@echo "setting up $(VENV) in full: about 8 GB of packages"
	$(PIP) install --constraint constraints/$(or $(SET),$(call version,$(BIN)/python)).txt --editable '.[all]'
	@touch $(VENV)/.demo $@

# Packages that no bound moves stay as they are; --upgrade among UV_OPTIONS takes the newest. Tools of `dev` have no oldest.
UV_OPTIONS =
compile = $(BIN)/uv pip compile --quiet pyproject.toml --no-header --no-annotate --no-emit-index-url $(UV_OPTIONS)
constraints: $(VENV)/.all ## the exact sets of packages anew, from pyproject.toml
	@for v in $(TESTED); do $(compile) --extra all --python-version $$v --output-file constraints/$$v.txt || exit 1; done
	@$(compile) --extra user --python-version 3.11 --resolution lowest-direct --output-file constraints/.lowest.txt
	@$(compile) --extra all --python-version 3.11 --constraint constraints/.lowest.txt --output-file constraints/lowest.txt
	@rm constraints/.lowest.txt

clean: ## remove what the other targets made, downloads and .venv included
	rm -rf .venv .venv-lowest .cache data runs build dist *.egg-info
