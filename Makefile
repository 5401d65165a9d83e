# Each target sets up what it needs. On a fresh machine: Python 3.11, gcc, make and a package registry.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# setuptools warns of every editable install; nothing in it is news
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip
export CACL_CACHE ?= $(CURDIR)/.cache

.PHONY: help demo demo-sweep test test-slow test-faults test-network test-slurm install-slurm test-mutants test-ray test-container \
	reproduce reproduce-labels bench-pack setup lint clean

help: ## show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

demo: .venv/.demo ## the main job end to end on real photographs and sounds, ends with a report
	@$(BIN)/cacl demo

demo-sweep: .venv/.all ## a sweep over temperature and batch size on a few hundred clips
	@$(BIN)/cacl pack stamps --clips 480 --out data/sweep/train || \
		$(BIN)/cacl pack generated --clips 480 --out data/sweep/train
	@$(BIN)/cacl pack stamps --clips 120 --seed 1 --out data/sweep/validation || \
		$(BIN)/cacl pack generated --clips 120 --seed 1 --out data/sweep/validation
	@$(BIN)/cacl label data/sweep/train
	@$(BIN)/cacl sweep launch/recipes/demo.yaml --space launch/spaces/demo.yaml --out runs/sweep --resume

test: .venv/.all ## the tests that CI runs
	@$(BIN)/python -m pytest

test-slow: .venv/.all ## the tests that take minutes
	@$(BIN)/python -m pytest -m slow

test-faults: .venv/.all ## kills, hangs, full disks and a soak under random kills
	@$(BIN)/python -m pytest -m faults

test-network: .venv/.all ## two network namespaces as two nodes, the link cut in a step (root)
	@$(call apt,ip,iproute2)
	@$(BIN)/python -m pytest -m network

test-slurm: .venv/.all install-slurm ## the job scripts on a real SLURM (root: apt installs slurm-wlm and munge)
	@$(BIN)/python -m pytest -m slurm

install-slurm: # with it, `make test` runs a part of test-slurm
	@$(call apt,slurmctld ip,slurm-wlm munge iproute2)

test-mutants: .venv/.all ## break the code in many places, one at a time, and see that tests notice
	@$(BIN)/python -m tests.mutants

test-ray: .venv/.all ## sweeps with Ray Tune, killed and restored
	@$(BIN)/python -m pytest -m ray

test-container: .venv/.all ## the images, built and run (root: apt installs buildah and mmdebstrap)
	@$(call apt,buildah mmdebstrap,buildah mmdebstrap)
	@$(BIN)/python -m pytest -m container

# $(call apt,PROGRAMS,PACKAGES): as root, install Debian packages where a program is missing
apt = which $(1) >/dev/null || [ "$$(id -u)" != 0 ] || \
	{ apt-get update -qq && apt-get install -qq -y --no-install-recommends $(2); }

reproduce: .venv/.all ## the paper's tables in miniature: writes docs/results.md
	@$(BIN)/python -m benchmarks.reproduce

reproduce-labels: .venv/.all ## trainings on labels of every kind: writes the study in docs/labels.md
	@$(BIN)/python -m benchmarks.label_study

bench-pack: .venv/.all ## packing against one ffmpeg process a clip (installs Debian's ffmpeg)
	@command -v ffmpeg >/dev/null || { sudo=$$(command -v sudo || true); $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends ffmpeg; }
	@$(BIN)/python -m benchmarks.pack --json

lint: .venv/.all ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

setup: .venv/.all ## the full environment in .venv

.venv/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v == (3, 11) or sys.exit(f"cacl needs Python 3.11, and {sys.executable} is {v[0]}.{v[1]}; name one with: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --upgrade pip

.venv/.demo: .venv/bin/python pyproject.toml constraints.txt
	@echo "setting up .venv: about 4 GB of packages"
	$(PIP) install --constraint constraints.txt --editable '.[demo]'
	@touch $@

.venv/.all: .venv/bin/python pyproject.toml constraints.txt
	@echo "setting up .venv in full: about 7 GB of packages"
	$(PIP) install --constraint constraints.txt --editable '.[all,dev]'
	@touch .venv/.demo $@

clean: ## remove what the other targets made, downloads and .venv included
	rm -rf .venv .cache data runs build dist *.egg-info
