# Everything runs in .venv, which is made once from constraints.txt and again when that file or pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
PYTEST_ARGS ?= -n auto

.DEFAULT_GOAL := help
.PHONY: help setup demo trust sensitivity demo-model browser test test-slow lint format clean pictures screenshots benchmark

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make .venv

demo: $(STAMP)  ## ask the embedded model about an embedded film and draw where it looked
	$(VENV)/bin/medgemma-visualizer analyze --out demo-output

browser:  ## install what the tests of the page need: Chromium (Debian), axe-core (npm)
	tools/setup_browser.sh

test: $(STAMP)  ## run the tests, but for the slow ones
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

test-slow: $(STAMP)  ## run the slow tests: every method with everything else (ten minutes on two cores)
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS) -m slow

lint: $(STAMP)  ## check style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(STAMP)  ## rewrite the files in the project's style
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

benchmark: $(STAMP)  ## measure start-up, memory and what maps cost on this CPU; writes a table of docs/performance.md
	$(VENV)/bin/python benchmarks/cpu.py
	$(VENV)/bin/python benchmarks/methods.py
	$(VENV)/bin/python benchmarks/compare.py
	$(VENV)/bin/python benchmarks/appendix_c.py --into docs/performance.md

WORKERS ?= 2
trust: $(STAMP)  ## measure which methods to trust on the embedded model: lesions, then marks planted by us
	$(VENV)/bin/medgemma-visualizer trust demo --findings pneumonia,pleural_effusion,pneumothorax,cardiomegaly \
		--sanity-cases 3 --workers $(WORKERS) --out trust-output
	$(VENV)/bin/medgemma-visualizer trust demo --workers $(WORKERS) --out trust-output/planted --probe planted \
		--cases 120 --sanity-cases 2 --agree-with trust-output

sensitivity: $(STAMP)  ## ask the embedded cases in other words; writes the table of docs/prompt_sensitivity.md
	$(VENV)/bin/python benchmarks/sensitivity.py --into docs/prompt_sensitivity.md \
		--gallery sensitivity-output/galleries.html

VOLUME ?= .ct/ct.npz
demo-model: $(STAMP)  ## train the embedded model anew into build/ (wants a GPU; VOLUME: see tools/demo/simulate.py)
	$(VENV)/bin/python tools/demo/train.py --volume $(VOLUME) --out build/first --plain-wording
	$(VENV)/bin/python tools/demo/train.py --volume $(VOLUME) --resume build/first --out build/second \
		--films 3000 --stage1-steps 0 --stage2-steps 900 --joint-steps 0 --rate 8e-4 --seed 1
	$(VENV)/bin/python tools/demo/train.py --volume $(VOLUME) --resume build/second --out build/demo-model \
		--films 6000 --stage1-steps 0 --stage2-steps 2100 --joint-steps 2100 --rate 6e-4 --tower-rate 1e-4 \
		--erased 0.5 --seed 3

clean:  ## remove .venv, caches and outputs
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis demo-output trust-output sensitivity-output

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { \
		echo "Python 3.11, 3.12 or 3.13 is needed, and $(PYTHON) is another; try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

pictures: $(STAMP)  ## draw the pictures of the README anew
	$(VENV)/bin/medgemma-visualizer analyze --all-methods --out demo-output
	mkdir -p docs/images && cp demo-output/overlay.png docs/images/where_it_looked.png
	cp demo-output/methods.png docs/images/methods.png

screenshots: $(STAMP)  ## draw the pictures of the page anew, from the running page
	$(VENV)/bin/python tools/screenshots.py docs/images
