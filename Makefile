# One command for each thing one does with a checkout. Every target does all the set-up it needs: Debian packages
# (tools/setup.sh), a virtual environment in .venv, the build in build/. Nothing is done twice: stamps remember.

VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

SOURCES := $(shell find native usnet_framework -not -name __pycache__ -not -name '*.pyc') \
	meson.build meson.options pyproject.toml README.md
# What exercises the extension, the network process and their deaths most; the sanitizers find nothing in the others.
SANITIZED_TESTS := tests/dispatch tests/devices tests/native tests/sockets tests/serving/test_replace.py tests/serving/test_stop.py \
	tests/survival/test_network_process.py tests/survival/test_poison.py
# Tests start processes and wait for them: two at a time keep two processors busy for half of the time only.
SIDE_BY_SIDE := -n 4 --dist worksteal
# On a quiet machine a native test needs less than its time-out; on a busy one it may need four times as long.
MESON_TEST := meson test --print-errorlogs --timeout-multiplier 4
OVER_TAP := usnet-bench compare --rounds 9 --base epoll-c --servers epoll-c,usnet-tap-inline,usnet-tap-split
AND_LWIP = $(shell pkg-config --exists lwip && echo ,lwip-tap)
ON_PAIR := usnet-bench compare --rounds 9 --base epoll-c --servers epoll-c,usnet-afxdp-inline,usnet-afxdp-split
FIXED := ,mirror-afxdp,usnet-tap-inline,usnet-tap-split,uvloop --fixed \
	--aim usnet-afxdp-inline:ratio/mirror-afxdp:0.9 --aim usnet-afxdp-inline:ratio:1.2 \
	--aim usnet-afxdp-split:ratio/mirror-afxdp:0.8 \
	--aim usnet-afxdp-inline:cpu:0.8 --aim usnet-afxdp-split:cpu:1

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help serve test test-trixie vm-test check native-test sanitized-test sim bench bench-stack bench-tap bench-afxdp bench-servers bench-scale soak fuzz corpus docs install clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

serve: $(VENV)/installed  ## set everything up and serve the echo example
	@python tools/serve.py examples.echo:Echo

test: $(VENV)/installed-for-tests native-test sanitized-test check  ## set everything up and run every test
	@pytest $(SIDE_BY_SIDE)

test-trixie:  ## the same in a clean Debian 13 (debootstrap, build/trixie), as root
	tools/setup.sh root
	tools/clean_root.sh trixie build/trixie make test

vm-test: $(VENV)/installed-for-tests build/lab/complete  ## real drivers of network cards, in an emulated machine, as root
	pytest -m lab tests/lab

check: $(VENV)/installed-for-tests
	ruff check .
	mypy

native-test: $(VENV)/installed-for-tests build/sanitized/installed build/tsan/build.ninja
	$(MESON_TEST) -C build/python-asan
	$(MESON_TEST) -C build/tsan --suite threads
	$(MESON_TEST) -C build/python --suite core

sanitized-test: build/sanitized/installed
	tools/sanitized.sh build/sanitized build/sanitizer-reports -q $(SIDE_BY_SIDE) $(SANITIZED_TESTS)

SEEDS ?= 1000

sim: $(VENV)/installed  ## run SEEDS random networks of simulated stacks (1000)
	python -P -m usnet_framework.testing.simulate --seeds $(SEEDS) --jobs $$(nproc)

bench: $(VENV)/installed-for-bench build/release/build.ninja  ## build/report/report.html: all figures, on a quiet machine, as root: half an hour
	ninja -C build/release native/bench/stack/stack_bench
	python tools/stack_bench.py --save build/stack.json build/release/native/bench/stack/stack_bench
	usnet-bench report --output build/report --add build/stack.json

bench-stack: $(VENV)/installed-for-bench build/release/build.ninja  ## the stack itself beside lwIP, in memory: a minute
	ninja -C build/release native/bench/stack/stack_bench
	python tools/stack_bench.py build/release/native/bench/stack/stack_bench

# Echo first as the kernel has it, then with each kernel's receiving on its own side's core. lwIP has no offloads: no bulk.
bench-tap: $(VENV)/installed-for-bench  ## servers with a stack of their own over TAP, beside one on kernel sockets
	$(OVER_TAP)$(AND_LWIP) --connections 1 --aim usnet-tap-inline:p50:0.8
	$(OVER_TAP)$(AND_LWIP),mirror-tap --aim usnet-tap-inline:ratio:1.4 --aim usnet-tap-split:ratio:1.1
	$(OVER_TAP)$(AND_LWIP),mirror-tap --rps --aim usnet-tap-inline:ratio:1.4 --aim usnet-tap-split:ratio:1.1
	$(OVER_TAP)$(AND_LWIP) --connect --aim usnet-tap-inline:rate:20000
	$(OVER_TAP) --way up --connections 4 --size 1048576 --aim usnet-tap-inline:gbit:20
	$(OVER_TAP) --way down --connections 4 --size 1048576 --aim usnet-tap-inline:gbit:20
	$(OVER_TAP) --connections 4 --size 1048576

# Throughput, and what a message takes at a fixed rate. In bulk, XDP does without segmentation offload: so do all.
bench-afxdp: $(VENV)/installed-for-bench  ## the same with the stack on AF_XDP sockets of a veth pair: half an hour
	$(ON_PAIR) --connections 1 --aim usnet-afxdp-inline:p50:0.8
	$(ON_PAIR)$(FIXED)
	$(ON_PAIR)$(FIXED) --rps
	$(ON_PAIR) --connect --aim usnet-afxdp-inline:rate:20000
	$(ON_PAIR) --no-segmentation --way up --connections 4 --size 1048576 --aim usnet-afxdp-inline:ratio:0.9
	$(ON_PAIR) --no-segmentation --way down --connections 4 --size 1048576 --aim usnet-afxdp-inline:ratio:0.9
	usnet-bench flood
	usnet-bench flood --server usnet-afxdp-split

bench-servers: $(VENV)/installed-for-bench build/release/build.ninja  ## servers on kernel sockets; survival, memory, the cost of looking
	usnet-bench compare --rounds 9
	usnet-bench kill --kills 200 --pause 0.1
	usnet-bench kill --process network
	usnet-bench reload --rounds 4 --duration 10 --connections 32
	usnet-bench sharing
	usnet-bench memory
	usnet-bench scrape
	python native/bench/dispatch_bench.py
	ninja -C build/release native/tests/ring_bench
	build/release/native/tests/ring_bench

bench-scale: $(VENV)/installed-for-bench  ## what a request costs with one to eight queues, and what is carried; as root: build/scale.*
	usnet-bench scale --csv build/scale.csv --plot build/scale.png

soak: $(VENV)/installed-for-tests  ## the tests that run for minutes
	USNET_TEST_PART=1 meson test -C build/python --timeout-multiplier 20 --print-errorlogs 'killed, tcp' 'killed, unix'
	USNET_BULK_MIB=1024 USNET_CHURN_SECONDS=30 pytest -rP -m 'slow or sized'

FUZZ_SECONDS := 60

fuzz: $(VENV)/installed-for-tests build/fuzz/build.ninja  ## run the fuzz targets for a minute each, or FUZZ_SECONDS
	python tools/fuzz_corpus.py unpack build/fuzz/native/fuzz/corpus
	meson test -C build/fuzz --suite fuzz --print-errorlogs --timeout-multiplier 0 \
		--test-args=-max_total_time=$(FUZZ_SECONDS)

corpus: build/fuzz/build.ninja  ## keep what `make fuzz` found: as few scripts as reach the same code, in native/fuzz/corpus
	ninja -C build/fuzz $(addprefix native/fuzz/fuzz_,exchange frames options sockets wire worker)
	python tools/fuzz_corpus.py pack build/fuzz/native/fuzz/corpus build/fuzz/native/fuzz

docs: $(VENV)/installed  ## write what derives from the code into README.md and ARCHITECTURE.md
	python tools/readme.py
	python tools/architecture.py

install: $(VENV)/installed  ## the package into .venv

clean:  ## forget everything that was built
	rm -rf build $(VENV)

# Set-up. The package is installed as its users install it, not in place; its build directory is kept.

build/packages: tools/setup.sh
	@mkdir -p build
	@tools/setup.sh build
	@touch $@

build/packages-for-tests: tools/setup.sh
	@mkdir -p build
	@tools/setup.sh test
	@touch $@

# What cannot be installed is left out of the comparisons, which say so.
build/packages-for-bench: tools/setup.sh
	@mkdir -p build
	@tools/setup.sh bench || echo "bench: goes on without it" >&2
	@touch $@

$(VENV)/made: build/packages pyproject.toml
	python3 -m venv $(VENV)
	python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		> build/requirements.txt
	pip install --quiet --disable-pip-version-check --requirement build/requirements.txt
	@touch $@

$(VENV)/installed: $(VENV)/made $(SOURCES)
	pip install --quiet --disable-pip-version-check --no-build-isolation --config-settings=build-dir=build/python .
	@touch $@

# With the package itself: building it twice would take a third of a minute more.
$(VENV)/installed-for-tests: build/packages-for-tests $(VENV)/made $(SOURCES)
	pip install --quiet --disable-pip-version-check --no-build-isolation --config-settings=build-dir=build/python '.[test]'
	@touch $(VENV)/installed $@

$(VENV)/installed-for-bench: build/packages-for-bench $(VENV)/installed-for-tests
	pip install --quiet --disable-pip-version-check --no-build-isolation --config-settings=build-dir=build/python \
		--config-settings=setup-args=-Dlwip=auto '.[bench]'
	@touch $@

# The parts of that machine are unpacked there, not installed.
build/lab/complete: tools/lab_fetch.sh
	@tools/lab_fetch.sh build/lab

# The package once more, for tools/sanitized.sh and the native tests. It is compiled as in .venv, but for the sanitizers.
build/sanitized/installed: $(VENV)/installed-for-tests
	rm -rf build/sanitized
	pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --target build/sanitized \
		--config-settings=build-dir=build/python-asan --config-settings=setup-args=-Dbuildtype=debugoptimized \
		--config-settings=setup-args=-Db_sanitize=address,undefined --config-settings=setup-args=-Db_lundef=false .
	@touch $@

build/fuzz/build.ninja: | $(VENV)/made
	tools/setup.sh fuzz
	CC=clang meson setup build/fuzz -Dpython=false -Dbuildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false

build/release/build.ninja: build/packages-for-bench | $(VENV)/made
	rm -rf build/release
	meson setup build/release -Dpython=false -Dlwip=auto

build/tsan/build.ninja: | $(VENV)/made
	meson setup build/tsan -Dpython=false -Dbuildtype=debugoptimized -Db_sanitize=thread -Db_lundef=false
