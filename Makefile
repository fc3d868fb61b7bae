PYTHON ?= python3
BIN := .venv/bin
DEMO := .grasp-bench/demo
METHODS := vanilla-ft lora moe grasp
# One thread for each worker: tensors are tiny, and some tests run several processes.
QUICK := -n 2 --dist loadfile -m "not slow and not slurm"
PYTEST := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/pytest

.PHONY: demo test test-lowest test-slow test-slurm coverage docs graph estimates bench bench-rates bench-gpu gpu-check clean

# The four methods on the embedded task, one seed, and the leaderboard they make.
demo: .venv/installed
	@for method in $(METHODS); do \
		$(BIN)/grasp-bench run --method $$method --task digits-lt --results $(DEMO) || exit; \
	done
	$(BIN)/grasp-bench report --results $(DEMO)

test: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) $(QUICK)

# The same tests with the lowest versions that pyproject.toml declares, in an environment of their own.
test-lowest: BIN := .venv-lowest/bin
test-lowest: .venv-lowest/installed-test
	$(PYTEST) $(QUICK)

# How many of the lines of the package the quick tests reach; a page for each file is in .grasp-bench/coverage.
coverage: .venv/installed-test
	$(PYTEST) $(QUICK) --cov --cov-report term --cov-report html

# What takes longer: every family of backbones with every method, kills and resumes, browsers, fresh environments.
test-slow: .venv/installed-test
	$(PYTEST) -n 2 --dist loadfile -m "slow and not slurm"

# Sweeps on a SLURM cluster that the tests start on this machine; needs Debian's slurm-wlm and munge.
test-slurm: .venv/installed-test
	$(PYTEST) -m slurm

# The documentation as a site, into .grasp-bench/site; a link that leads nowhere is an error.
docs: .venv/installed-test
	$(BIN)/mkdocs build --strict

# What the documentation says of the code itself: the graph of packages, and what to read to add a plugin.
graph: .venv/installed-test
	PYTHONPATH=tests $(BIN)/python -m docs.generated

# The table of estimates in docs/runs.md, from a simulated GPU; about half an hour on one core.
estimates: .venv/installed-test
	PYTHONPATH=tests HF_HUB_OFFLINE=1 $(BIN)/python -m docs.estimates

# Speed and memory as ratios measured side by side in one run, into results/perf.
bench: .venv/installed-bench
	PYTHONPATH=tests $(BIN)/python -m bench.bench_metrics
	PYTHONPATH=tests $(BIN)/python -m bench.bench_data --rows 100000
	PYTHONPATH=tests $(BIN)/python -m bench.bench_loader
	PYTHONPATH=tests $(BIN)/python -m bench.bench_report
	PYTHONPATH=tests $(BIN)/python -m bench.bench_adapters
	PYTHONPATH=tests $(BIN)/python -m bench.bench_savings
	PYTHONPATH=tests $(BIN)/python -m bench.bench_training
	PYTHONPATH=tests $(BIN)/python -m bench.bench_sizes

# What learning rates do by the width of the transformer, every method; about two hours on one core.
bench-rates: .venv/installed-bench
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m bench.bench_rates

# Training at the true sizes of SD3.5-medium and PixArt-Σ with random weights, on a GPU; about nine minutes.
bench-gpu: .venv/installed-bench
	PYTHONPATH=tests $(BIN)/python -m bench.bench_gpu

# What a GPU does against what a CPU and the simulated GPU say, in ten minutes on an H100.
gpu-check: .venv/installed-bench
	PYTHONPATH=tests HF_HUB_OFFLINE=1 $(BIN)/python -m bench.gpu_check

clean:
	rm -rf .venv .venv-lowest $(DEMO) .grasp-bench/site .grasp-bench/coverage build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

# An install is editable, so only a change of what is declared asks for another; the metadata that a former one left
# here would hide the new.
.venv/installed: pyproject.toml | .venv/bin/python
	rm -rf *.egg-info
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/installed-test: pyproject.toml | .venv/bin/python
	rm -rf *.egg-info
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	@touch $@ .venv/installed

.venv/installed-bench: pyproject.toml | .venv/bin/python
	rm -rf *.egg-info
	$(BIN)/python -m pip install --quiet --editable ".[bench]"
	@touch $@ .venv/installed

.venv-lowest/installed-test: pyproject.toml
	rm -rf .venv-lowest *.egg-info
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest --resolution lowest-direct --editable ".[test]"
	@touch $@

.venv/bin/python:
	$(PYTHON) -m venv .venv
