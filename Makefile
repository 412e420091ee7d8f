# Every target first does the set-up it needs (packages.apt, .venv); a second run finds it done.
.POSIX:
.DELETE_ON_ERROR:
.PHONY: setup test lint check demo bench bench-quick bench-kernel bench-record bench-report sim sim-defects torture endurance test-kernel test-system test-upgrades deb docs man screenshots cover compiled test-compiled fuzz clean help

VENV = .venv/bin
STAMP = .venv/.stamp
COMPILED = $(shell find src/hast -name "*.py")
JOBS = 3
BASE = HEAD
SEEDS = 4000
SEED_START = 0
INPUTS = 2000000
TORTURE = tests/lab tests/net tests/supervisor tests/failover tests/watch tests/cli
KILLS = 125
CHANGES = 20
FROM =

help:
	@echo 'make demo         the whole story on two hosts in this machine (root: block devices and ZFS)'
	@echo 'make test         lint, types and all tests'
	@echo 'make bench        our pair and others in turns over NBD, in a quarter of an hour'
	@echo 'make bench-record all of it, an hour on a quiet machine, into docs/performance'
	@echo 'make bench-report docs/performance.md and its plots, from docs/performance/record.json'
	@echo 'make bench-quick  what is faster or slower than BASE=commit, beyond the noise (three minutes)'
	@echo 'make bench-kernel our devices beside DRBD and md, in instructions, in a virtual machine'
	@echo 'make sim          the deterministic simulator (SEEDS=2000 SEED_START=7)'
	@echo 'make sim-defects  does the simulator notice seeded defects?  DEFECTS=id,... SEEDS=n'
	@echo 'make torture      long fault injection in the lab, and what is too slow for make test'
	@echo 'make endurance    kill, restart and upgrade under fio on a device, ext4, xfs and a pool (KILLS=n on each)'
	@echo 'make test-kernel  nbd, ublk, TLS and OpenZFS of a true kernel, in a virtual machine'
	@echo 'make deb          Debian packages in dist/ (as root it installs what the build needs)'
	@echo 'make docs         docs/problems.md and docs/diagrams.md, from the code'
	@echo 'make man          manual pages in build/man'
	@echo 'make screenshots  pictures of the page in docs/images'
	@echo 'make test-system  packages, units and removal in booted Debians 12 and 13 (root)'
	@echo 'make test-upgrades  packages changed, there and back, under fio (CHANGES=n on each host, FROM=commit)'
	@echo 'make fuzz         hostile bytes to FUSE, NBD, lzf and TLS (INPUTS=n for each, SEED_START=seed)'
	@echo 'make cover        branch coverage of format/ and replication/'
	@echo 'make compiled     format/, replication/ and the hot modules of worker/ as machine code in build/compiled'
	@echo 'make test-compiled  the tests of these rooms on it, and the simulator: the same histories as without'
	@echo 'make clean        remove what the above made'

$(STAMP): packages.apt pyproject.toml requirements.lock scripts/setup
	@./scripts/setup

setup: $(STAMP)

lint: $(STAMP)
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/mypy -p bench

check test: lint
	$(VENV)/pytest -n $(JOBS) --dist loadgroup -m 'not slow'

demo: $(STAMP)
	@$(VENV)/python -m hast.lab.demo

bench: $(STAMP)
	@$(VENV)/python -m bench

bench-record: compiled
	@$(VENV)/python -m bench --record --json docs/performance/record.json
	@$(VENV)/python -m bench.report

bench-report: $(STAMP)
	@$(VENV)/python -m bench.report

bench-quick: $(STAMP)
	@$(VENV)/python -m bench.quick --base $(BASE)

bench-kernel: compiled
	$(VENV)/pytest -s -m slow tests/kernel/test_kernel_contest.py

sim: $(STAMP)
	@$(VENV)/python -m hast.sim --seeds $(SEEDS) --start $(SEED_START)

sim-defects: $(STAMP)
	@$(VENV)/python tests/defects/run.py

torture: $(STAMP)
	$(VENV)/pytest -m slow $(TORTURE)

endurance: $(STAMP)
	HAST_KILLS=$(KILLS) $(VENV)/pytest -s -m slow tests/lab/test_endurance.py

test-kernel: $(STAMP)
	$(VENV)/pytest -m slow tests/kernel

deb:
	@./scripts/build-deb

docs: $(STAMP)
	@$(VENV)/python packaging/drawings.py

man: $(STAMP)
	@$(VENV)/python packaging/assemble.py build/share
	@rm -rf build/man && mv build/share/man build/man

screenshots: $(STAMP)
	@PYTHONPATH=tests/support $(VENV)/python tests/watch/screenshots.py docs/images

test-system: $(STAMP)
	$(VENV)/pytest -m slow tests/system

test-upgrades: $(STAMP)
	HAST_CHANGES=$(CHANGES) HAST_UPGRADE_FROM=$(FROM) $(VENV)/pytest -s -m slow tests/system/test_upgrades.py

fuzz: $(STAMP)
	@$(VENV)/python tests/fuzz/run.py --inputs $(INPUTS) --seed $(SEED_START)

cover: $(STAMP)
	$(VENV)/pytest -n $(JOBS) -q tests/format tests/replication -m 'not slow' \
		--cov=hast.format --cov=hast.replication --cov-branch --cov-fail-under=95

compiled: build/compiled/.stamp

build/compiled/.stamp: $(STAMP) setup.py packaging/compiled.py $(COMPILED)
	@rm -rf build/compiled
	HAST_COMPILED=1 $(VENV)/python setup.py -q build --build-lib build/compiled
	@touch $@

test-compiled: compiled
	PYTHONPATH=build/compiled $(VENV)/pytest -n $(JOBS) -q -m 'not slow' tests/format tests/replication tests/worker tests/compiled
	PYTHONPATH=build/compiled $(VENV)/python -m hast.sim --seeds 200 --start $(SEED_START)

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* src/*.egg-info
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
