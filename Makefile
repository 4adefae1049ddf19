# `make` lists what there is. PYTHON makes .venv; PIP_ARGS go to pip, for instance
#   make book PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= python3
PIP_ARGS ?=
PROFILE = quick
SEED = 1
TIME = 30
CH =
P =

READY := .venv/ready
PY := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help book test check lab chapter verify browse pdf fresh bench gpu mutants clean
.DELETE_ON_ERROR:

help: ## list the commands
	@awk -F ': .*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

book: $(READY) ## execute what changed, build the site (PROFILE=full: at paper scale)
	$(PY) -m ci.run --profile $(PROFILE)
	$(PY) -m ci.build --profile $(PROFILE)

test: check ## check the sources, test zotk and ci
	OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile --durations=12

check: $(READY) ## lint, types, numbers in the prose, cells that check and cells that show
	$(PY) -m ruff check .
	$(PY) -m ruff format --check --quiet .
	$(PY) -m mypy
	$(PY) -m ci.prose
	$(PY) -m ci.checkcells
	$(PY) -m ci.glued

lab: $(READY) ## open the chapters as notebooks in JupyterLab
	$(PY) -m ci.lab

chapter: $(READY) ## run one chapter beside the book: CH=name P="seed=3 draws=1000"
	@test -n "$(CH)" || { echo 'say which chapter: make chapter CH=name'; exit 2; }
	$(PY) -m ci.checkcells $(addsuffix .md,$(addprefix chapters/,$(CH)))
	$(PY) -m ci.run --only $(CH) --parameters $(P)

verify: $(READY) ## all checks under another seed of the book: SEED=7 (CH="name …": of these chapters)
	$(PY) -m ci.run --profile checks --seed $(SEED) $(if $(CH),--only $(CH))

browse: book ## open every page in headless Chromium, and a chapter in JupyterLab
	$(PY) -m ci.browse build/html
	$(PY) -m ci.lab_look

pdf: book ## print the whole book as one PDF with headless Chromium
	$(PY) -m ci.pdf build/html

fresh: book ## run a downloaded notebook in an environment of its own
	PIP_ARGS="$(PIP_ARGS)" $(PY) -m ci.downloads

bench: $(READY) ## speed beside plain code: times, ratios, errors of one run
	$(PY) -m ci.bench

gpu: $(READY) ## run all chapters at paper scale on a CUDA device, keep the evidence
	$(PY) -m ci.gpu

mutants: $(READY) ## plant small faults, list those that nothing notices (TIME=minutes; goes on)
	$(PY) -m ci.mutants --minutes $(TIME)

clean: ## remove what was built; .venv and .cache stay
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(READY): requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Python 3.11 or newer is needed: make PYTHON=python3.12 …'; exit 2; }
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --disable-pip-version-check -r requirements.txt -c constraints.txt $(PIP_ARGS)
	$(PY) -m pip install --disable-pip-version-check --no-deps -e .
	$(PY) -m ci.axe
	@touch $@
