PYTHON ?= python3
BIN := .venv/bin
DEMO := .grasp-bench/demo
METHODS := vanilla-ft lora moe grasp
# One thread for each worker: tensors are tiny, and some tests run several processes.
QUICK := -n 2 --dist loadfile -m "not slow and not slurm and not families"
PYTEST := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/pytest

.PHONY: demo protocol protocol-mnist test test-lowest test-slow test-families test-slurm coverage docs site graph tables examples estimates parameters bench bench-rates bench-gpu gpu-check clean

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

# The protocol's numbers of digits-lt anew: every search, then every sweep of the folder, two processes of one thread
# each. What is finished stays in results/digits-lt, so the target resumes wherever it was stopped.
SWEEPS = results/digits-lt/sweeps
listed = $(shell $(BIN)/python -c "import tomllib; print(*tomllib.load(open('$(SWEEPS)/$(1).toml', 'rb'))['$(2)'])")
TUNE = OMP_NUM_THREADS=1 $(BIN)/grasp-bench tune --task digits-lt --device cpu
protocol: .venv/installed
	@echo "about 46 to 59 hours of one core, half of that with two processes, by an estimate (docs/protocol.md)"
	$(MAKE) --jobs 2 $(addprefix search-,$(call listed,methods,methods))
	$(MAKE) --jobs 2 $(addprefix guidances-,$(call listed,guidances,methods))
	for sweep in methods scales guidances controls partitions gates place tread; do \
		OMP_NUM_THREADS=1 $(BIN)/grasp-bench sweep $(SWEEPS)/$$sweep.toml --max-parallel 2 || exit; \
	done

# Five methods on a second task: 7 to 25 minutes of one core for each of 36 runs.
protocol-mnist: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/grasp-bench sweep results/mnist-lt/sweeps/rates.toml --max-parallel 2
	OMP_NUM_THREADS=1 $(BIN)/grasp-bench sweep results/mnist-lt/sweeps/methods.toml --max-parallel 2

search-%:
	$(TUNE) --method $*

# "none" has nothing to search, "cfg" has the scale of the method's search, and "distilled" learns the one it is given.
guidances-%:
	$(TUNE) --method $* $(addprefix --guidance ,$(filter-out none cfg distilled,$(call listed,guidances,guidances)))

# How many of the lines of the package the quick tests reach; a page for each file is in .grasp-bench/coverage.
coverage: .venv/installed-test
	$(PYTEST) $(QUICK) --cov --cov-report term --cov-report html

# What takes longer: every family of backbones with every method, kills and resumes, browsers, fresh environments.
test-slow: .venv/installed-test
	$(PYTEST) -n 2 --dist loadfile -m "slow and not slurm"

# The conformance suite and the simulated GPU in full: every method and guidance on every family of backbones. No part
# of .ci/run.
test-families: .venv/installed-test
	$(PYTEST) -n 2 -m families

# Sweeps on a SLURM cluster that the tests start on this machine; needs Debian's slurm-wlm and munge.
test-slurm: .venv/installed-test
	$(PYTEST) -m slurm

# The documentation as a site, into .grasp-bench/site; a link that leads nowhere is an error.
docs: .venv/installed-test
	$(BIN)/mkdocs build --strict

# The documentation with the page of all committed runs, as a static folder to publish: .grasp-bench/site.
site: docs
	$(BIN)/grasp-bench report --html .grasp-bench/site/leaderboard

# What the documentation says of the code itself: the graph of packages, and what to read to add a plugin.
graph: .venv/installed-test
	PYTHONPATH=tests $(BIN)/python -m docs.generated

# What is made from the committed records: the tables, the forest plot, and what is counted from records.
TASK_RESULTS := results/digits-lt
ARCHIVE := results/archive
tables: .venv/installed-test
	$(BIN)/grasp-bench report --update BENCHMARKS.md
	$(BIN)/grasp-bench report --update docs/claims.md
	$(BIN)/grasp-bench report --update $(TASK_RESULTS)/TABLES.md
	$(BIN)/grasp-bench report --update results/mnist-lt/TABLES.md
	$(BIN)/grasp-bench report --update $(ARCHIVE)/digits-lt/TABLES.md --results $(ARCHIVE)
	$(BIN)/grasp-bench report --task digits-lt --baseline vanilla-ft --format svg --out $(TASK_RESULTS)/forest.svg
	PYTHONPATH=tests $(BIN)/python -m docs.benchmarks
	PYTHONPATH=tests $(BIN)/python -m calibration.reliability

# The outputs in docs/first-run.md, from two runs of what is installed; a few minutes.
examples: .venv/installed-test
	for method in grasp vanilla-ft; do \
		OMP_NUM_THREADS=1 $(BIN)/grasp-bench run $$method digits-lt --device cpu --results docs/examples || exit; \
	done
	find docs/examples -type f ! -name record.json -delete
	PYTHONPATH=tests $(BIN)/python -m docs.examples

# The tables of estimates in docs/runs.md and docs/claims.md, from a simulated GPU; about forty minutes on one core.
estimates: .venv/installed-test
	PYTHONPATH=tests HF_HUB_OFFLINE=1 $(BIN)/python -m docs.estimates
	PYTHONPATH=tests HF_HUB_OFFLINE=1 $(BIN)/python -m docs.claim_costs

# The table of parameters in docs/backbones.md; a few minutes.
parameters: .venv/installed-test
	PYTHONPATH=tests HF_HUB_OFFLINE=1 $(BIN)/python -m docs.parameters

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
	PYTHONPATH=tests $(BIN)/python -m bench.bench_busy
	PYTHONPATH=tests $(BIN)/python -m bench.agreement

# What learning rates do by the width of the transformer, every method; about five hours on one core.
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
