# Each target prepares what it needs; `make help` lists them. Setup talks on stderr: stdout is the program's alone.

MAKEFLAGS += --no-print-directory
SHELL := /bin/sh
.DEFAULT_GOAL := help

HOSTS ?= 250
VMS ?= 40
PORT ?= 8080
SECONDS_LIMIT ?=
MINUTES ?= 20
ARGS ?=
GUESTS ?= 0
SLOW ?=
JOBS ?= 2

bootstrap := python3 deploy/bootstrap.py
bin := .venv/bin

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## install what is missing: Debian packages, then .venv
	@$(bootstrap) test

.PHONY: demo
demo: ## run a simulated fleet with a broker and the engine side (HOSTS, VMS, PORT, SECONDS_LIMIT)
	@$(bootstrap) demo
	@exec $(bin)/vmpulse-simulator demo --hosts $(HOSTS) --vms $(VMS) --port $(PORT) \
		$(if $(SECONDS_LIMIT),--seconds-limit $(SECONDS_LIMIT))

.PHONY: test
test: setup ## run the tests, JOBS at a time (ARGS are pytest's)
	@exec $(bin)/python -m pytest --numprocesses $(JOBS) --dist loadfile $(ARGS)

.PHONY: check
check: setup ## lint, formatting and types
	@$(bin)/ruff check
	@$(bin)/ruff format --check
	@$(bin)/mypy

.PHONY: lab
lab: ## try the agent on real libvirt and QEMU (root; GUESTS real ones, SLOW=1 for all, ARGS are the lab's)
	@$(bootstrap) lab
	@exec $(bin)/python -m tests.lab --guests $(GUESTS) $(if $(SLOW),--slow) $(ARGS)

.PHONY: soak
soak: ## hold sections still while everything around real domains comes and goes (root; SECONDS_LIMIT, GUESTS)
	@$(bootstrap) lab
	@exec $(bin)/python -m tests.lab.soak --guests $(GUESTS) $(if $(SECONDS_LIMIT),--seconds $(SECONDS_LIMIT)) $(ARGS)

.PHONY: secrets
secrets: ## passwords for docker-compose.yml as files (ARGS='--host h001' for a host's agent)
	@python3 deploy/make_secrets.py $(ARGS)

.PHONY: deb
deb: ## build the Debian package into dist/ (a virtual environment below /opt/vmpulse, and the units)
	@$(bootstrap) package --packages-only
	@/usr/bin/python3 deploy/debian/make_deb.py

.PHONY: deb-test
deb-test: deb setup ## install the Debian package in a clean root, run it, remove it (root)
	@exec $(bin)/python -m tests.packages deb

.PHONY: rpm
rpm: ## build the RPM and its source package into dist/, with Debian's rpm tools
	@$(bootstrap) package --packages-only
	@/usr/bin/python3 deploy/rpm/make_rpm.py

.PHONY: rpm-test
rpm-test: rpm setup ## install the RPM in a clean root, run it, upgrade it, remove it (root)
	@exec $(bin)/python -m tests.packages rpm

.PHONY: units-test
units-test: deb setup ## boot the package's units under a systemd of their own, with broker, libvirt and a guest (root)
	@$(bootstrap) lab
	@exec $(bin)/python -m tests.packages.booted

.PHONY: compose-test
compose-test: ## build the images, bring the composed stack up, hurt it, take it down; needs root
	@$(bootstrap) compose
	@exec $(bin)/python -m tests.compose $(ARGS)

.PHONY: prove
prove: setup ## try ten thousand histories of hosts, broker and view, and that deliberate bugs are caught (ARGS='--seed 7')
	@$(bin)/python -m tests.consumers.view.proving --jobs $(JOBS) $(ARGS)
	@exec $(bin)/python -m pytest --numprocesses $(JOBS) --dist load tests/consumers/view/test_mutants.py

.PHONY: fuzz
fuzz: setup ## feed every decoder with a million mutated messages, one JSON line at the end (ARGS='--seed 7')
	@exec $(bin)/python -m tests.fuzz --jobs $(JOBS) $(ARGS)

.PHONY: nightly
nightly: ## what takes long: the composed stack, ten thousand histories, a million mutated messages, the benches, the lab, an hour of soak
	@$(MAKE) test ARGS='-m long'
	@$(MAKE) deb-test
	@$(MAKE) units-test
	@$(MAKE) rpm-test
	@$(MAKE) compose-test ARGS=
	@$(MAKE) prove ARGS=
	@$(MAKE) fuzz ARGS=
	@$(MAKE) bench-check ARGS=
	@$(MAKE) bench-agent ARGS=
	@$(MAKE) bench ARGS='--into .vmpulse/performance'
	@$(MAKE) bench-flood ARGS=
	@$(MAKE) lab GUESTS=3 SLOW=1 ARGS=
	@$(MAKE) soak GUESTS=2 SECONDS_LIMIT=3600 ARGS=
	@$(MAKE) bench-soak MINUTES=60 ARGS=

.PHONY: bench
bench: setup ## run wire, freshness, reads, warmup, ingest, connections and scale, and write docs/performance/ (50 minutes; ARGS='--only NAME')
	@exec $(bin)/python -m benches.figures $(ARGS)

.PHONY: bench-frame
bench-frame: setup ## what a frame costs, as one JSON line
	@exec $(bin)/python -m benches.frame $(ARGS)

.PHONY: bench-agent
bench-agent: ## what the agent costs a host, beside other programs, as one JSON line (root; ARGS are the bench's)
	@$(bootstrap) bench
	@exec $(bin)/python -m benches.agent_tick --peers $(ARGS)

.PHONY: bench-check
bench-check: setup ## short benches; fails if a ratio is 15 % worse than committed (3 minutes; the agent only as root; ARGS=--renew)
	@if [ "$$(id -u)" = 0 ]; then $(bootstrap) lab; fi
	@exec $(bin)/python -m benches.guard $(ARGS)

.PHONY: bench-chaos
bench-chaos: setup ## break broker, view and agents by a seed, and fail if the view says what is wrong (ARGS are the bench's)
	@exec $(bin)/python -m benches.chaos $(ARGS)

.PHONY: bench-connections
bench-connections: setup ## kill the broker of 2,500 agents, and see how they come back, as one JSON line (ARGS are the bench's)
	@exec $(bin)/python -m benches.connections $(ARGS)

.PHONY: bench-flood
bench-flood: setup ## have one host say all it can, and fail if that costs the others more than freshness (ARGS are the bench's)
	@exec $(bin)/python -m benches.flood $(ARGS)

.PHONY: bench-wire
bench-wire: setup ## what a fleet costs on the wire, beside those that poll, as one JSON line (8 minutes; ARGS=--quick for half of one)
	@exec $(bin)/python -m benches.wire $(ARGS)

.PHONY: bench-freshness
bench-freshness: setup ## time changes from hypervisors to the view, workers and streams, beside bare messages and polling, as one JSON line
	@exec $(bin)/python -m benches.freshness $(ARGS)

.PHONY: bench-soak
bench-soak: ## let everything run for MINUTES, and fail if a process grows or ends late, or the view is wrong (root; ARGS are the bench's)
	@$(bootstrap) lab
	@exec $(bin)/python -m benches.soak --minutes $(MINUTES) $(ARGS)

.PHONY: bench-warmup
bench-warmup: setup ## how long a view takes to be of use after its start, as one JSON line (ARGS are the bench's)
	@exec $(bin)/python -m benches.warmup $(ARGS)

.PHONY: bench-reads
bench-reads: setup ## what readers cost a view and each other, as one JSON line (ARGS are the bench's)
	@exec $(bin)/python -m benches.reads $(ARGS)

.PHONY: bench-view
bench-view: setup ## what a view costs without a broker: bytes a VM, CPU time a frame, as one JSON line (ARGS are the bench's)
	@exec $(bin)/python -m benches.view_alone $(ARGS)

.PHONY: bench-ingest
bench-ingest: setup ## the view's CPU time for a message beside that of an empty callback, as one JSON line (ARGS are the bench's)
	@exec $(bin)/python -m benches.ingest $(ARGS)

.PHONY: bench-scale
bench-scale: setup ## grow a fleet to a million VMs on one view, and tell how large it may be, as one JSON line (ARGS are the bench's)
	@exec $(bin)/python -m benches.scale $(ARGS)

.PHONY: fmt
fmt: setup ## format, and mend what the linter can mend
	@$(bin)/ruff check --fix --exit-zero --quiet
	@$(bin)/ruff format

.PHONY: lock
lock: setup ## renew the lock files from pyproject.toml (ARGS=--upgrade for newer versions, '--upgrade-package NAME' for one)
	@$(bin)/python requirements/compile.py $(ARGS)

.PHONY: audit
audit: setup ## ask whether a locked version has a known vulnerability; fails also if nobody answers (ARGS are pip-audit's)
	@exec $(bin)/python requirements/audit.py $(ARGS)

.PHONY: licences
licences: setup ## write docs/licences.md from what the locked packages state, unless one is not allowed
	@exec $(bin)/python requirements/licences.py $(ARGS)

.PHONY: clean
clean: ## remove .venv, .vmpulse and caches
	@rm -rf .venv .vmpulse .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
