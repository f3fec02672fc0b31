#!/bin/sh
# Install the Debian packages that are missing: `setup.sh build` for building and serving, `setup.sh test` for
# the tests as well, `setup.sh fuzz` for libFuzzer, `setup.sh bench` for what benchmarks compare and count with,
# `setup.sh root` for a clean root of another release (clean_root.sh).
#
# What is there already is not touched. As root, or with a sudo that asks for no password, apt-get installs the rest;
# otherwise one line says what to install. Of prometheus the tests use promtool alone: it is put into build/tools, since
# the package would start a server. From Debian 13 on promtool is a package of its own.
set -eu

missing=
unpacked=
needs() { missing="$missing $*"; }
has() { command -v "$1" >/dev/null 2>&1; }

has python3 || { echo "setup: python3 (3.11 or newer) is needed" >&2; exit 1; }
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "setup: $(python3 -V) is too old: Python 3.11 or newer is needed" >&2; exit 1; }
python3 -c 'import ensurepip, venv' 2>/dev/null || needs python3-venv
python3 -c 'import os, sysconfig; assert os.path.exists(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null ||
    needs python3-dev
has cc && echo '#include <stdlib.h>' | cc -E - >/dev/null 2>&1 || needs gcc libc6-dev
has clang || needs clang # for the kernel's BPF machine
has cc && echo '#include <bpf/libbpf.h>' | cc -E - >/dev/null 2>&1 || needs libbpf-dev
if [ "$1" = test ]; then
    has ip || needs iproute2
    has curl || needs curl
    has wrk || needs wrk
    has tshark || needs tshark
    has valgrind || needs valgrind
    has pkg-config || needs pkgconf
    has systemd-analyze || needs systemd
    has promtool || [ -x build/tools/promtool ] || unpacked=prometheus
fi
if [ "$1" = bench ]; then
    has ip || needs iproute2
    has valgrind || needs valgrind
    has pkg-config || needs pkgconf
    { has pkg-config && pkg-config --exists lwip; } || needs liblwip-dev
fi
if [ "$1" = root ]; then
    has debootstrap || needs debootstrap
    has unshare || needs util-linux
fi
if [ "$1" = fuzz ]; then
    # The libraries of the sanitizers are a package that clang only recommends.
    echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' |
        clang -x c -fsanitize=fuzzer,address,undefined -o /dev/null - 2>/dev/null || needs libclang-rt-dev
fi

[ -n "$missing$unpacked" ] || exit 0
if ! has apt-get; then
    lacking="$missing${unpacked:+ $unpacked (promtool)}"
    echo "setup: missing here, by the names of their Debian packages:$lacking; install them and try again" >&2
    exit 1
elif [ "$(id -u)" = 0 ]; then
    as_root=
elif has sudo && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
elif [ -z "$missing" ]; then
    as_root=nobody
else
    echo "setup: run this as root, then try again: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
echo "setup: installing$missing${unpacked:+ promtool}"
[ "$as_root" = nobody ] || $as_root apt-get -qq update
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086 # a list of words, on purpose
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends $missing >/dev/null
fi
[ -n "$unpacked" ] || exit 0
mkdir -p build/tools
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
download() { (cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "$1"); }
download promtool 2>/dev/null || download "$unpacked"
dpkg-deb --fsys-tarfile "$folder"/*.deb | tar -xO ./usr/bin/promtool >"$folder/promtool"
chmod +x "$folder/promtool"
mv "$folder/promtool" build/tools/promtool
