# Everything runs in .venv, which is made when it is first needed. Python >= 3.11 and make are enough.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint .ci/constraints.txt

.PHONY: demo test interop test-learn reliability bench check docs format evidence clean

demo: .venv/installed  ## train PPO on CartPole-v1 until it is solved, with a picture at the end
	rm -rf runs/demo
	$(BIN)/bellmark train ppo --env CartPole-v1 --tuned --run runs/demo
	@echo "(first put bellmark on the path: . .venv/bin/activate)"

test: .venv/installed-dev  ## the whole test suite, without the slow learning tests; what hangs fails after ten minutes
	$(BIN)/python -m pytest -n 2 -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true

interop: .venv/installed-dev .venv/d3rlpy/installed .venv/dm_control/installed  ## d3rlpy and dm_control, in environments of their own
	BELLMARK_D3RLPY=$(CURDIR)/.venv/d3rlpy/bin/python $(BIN)/python -m pytest -q tests/offline/test_collected_formats.py
	BELLMARK_DM_CONTROL=1 .venv/dm_control/bin/python -m pytest -q tests/envs/test_dm_control.py

test-learn: .venv/installed-dev  ## train every agent for minutes and compare with calibrated thresholds
	$(BIN)/python -m pytest -m learn

reliability: .venv/installed-dev  ## inject every fault and fuzz every reader as often as the evidence needs (about two hours)
	nice -n 10 $(BIN)/python -m pytest tests/reliability --full --record scripts/evidence/reliability.csv

bench: .venv/installed-dev  ## measure speed and memory beside stable-baselines3, on an idle machine
	$(BIN)/bellmark bench --out scripts/evidence/bench.json
	$(BIN)/bellmark bench --threads 2 --out scripts/evidence/bench-two-threads.json

check: .venv/installed-dev  ## what a commit must pass: style, types and the structure of files (then `make test`)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p .venv/types && ln -sfn ../.. .venv/types/bellmark
	cd .venv/types && ../bin/mypy --config-file ../../pyproject.toml -p bellmark.agents -p bellmark.envs -p bellmark.offline -p bellmark.scripts
	$(BIN)/python -m pytest -q tests/core/test_imports.py

docs: .venv/installed-dev  ## write the pages of all agents in docs/ from docstrings, settings and evidence
	$(BIN)/python -m bellmark.scripts.docs

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

evidence: .venv/installed-dev  ## make every run that is planned in scripts/evidence and not there yet (days)
	for plan in scripts/evidence/*.toml; do $(BIN)/python -m bellmark.scripts.grid $$plan || exit; done

.venv/installed: pyproject.toml .ci/constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Bellmark needs Python 3.11 or newer: make PYTHON=python3.11 demo" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(INSTALL) --editable ".[dev,sb3,box2d,atari,envpool,minatar,minari,video,onnx]"
	touch $@

.venv/d3rlpy/installed: .ci/constraints.txt
	$(PYTHON) -m venv .venv/d3rlpy
	.venv/d3rlpy/bin/python -m pip install --quiet --disable-pip-version-check d3rlpy==2.8.1 $$(grep ^torch== .ci/constraints.txt)
	touch $@

.venv/dm_control/installed: pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv .venv/dm_control
	grep -v ^mujoco .ci/constraints.txt > .venv/dm_control/constraints.txt
	.venv/dm_control/bin/python -m pip install --quiet --disable-pip-version-check --constraint .venv/dm_control/constraints.txt --editable ".[dm_control]" pytest dm_control==1.0.50 shimmy==2.0.1 mujoco==3.17.0
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
