#!/bin/sh
# Fetch the parts of the emulated machine (tests/support/machine.py) into a folder: `lab_fetch.sh FOLDER`. Nothing is
# installed on this machine.
#
# FOLDER/qemu gets QEMU with the libraries that this machine lacks, FOLDER/guest a kernel with its modules and busybox:
# packages of Debian, unpacked. They come from the mirror that this machine's apt is configured for: other suites of it
# are asked for by a list of sources of their own, with lists and a cache in FOLDER/apt. Lists are checked by their
# signature, packages by the lists. QEMU is of this machine's release or its backports, whichever is newer (the Intel
# 82576 came with QEMU 8); the kernel is of KERNEL_SUITE, whose driver of that card has zero-copy AF_XDP.
# FOLDER/complete is written last, and names the versions. A mirror that does not answer is asked again, until
# USNET_LAB_FETCH_SECONDS are over.
set -eu

KERNEL_SUITE=trixie-backports
deadline=$(($(date +%s) + ${USNET_LAB_FETCH_SECONDS:-900}))

die() { echo "lab: $*" >&2; exit 1; }
[ $# = 1 ] || die "usage: lab_fetch.sh FOLDER"
command -v apt-get >/dev/null || die "the parts are packages of Debian, and there is no apt-get"
[ "$(dpkg --print-architecture)" = amd64 ] || die "its cards are emulated for amd64 only"
mkdir -p "$1"
folder=$(cd "$1" && pwd)
apt=$folder/apt

in_time() { # what asks the mirror
    left=$((deadline - $(date +%s)))
    timeout --foreground "$((left > 0 ? left : 1))" "$@"
}

# Everything that apt writes is in the folder; what it knows to be installed is what this machine has.
get() {
    tool=$1
    shift
    in_time "$tool" -qq -o APT::Sandbox::User="$(id -un)" \
        -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$apt/sources" \
        -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt/cache" -o Debug::NoLocking=true \
        -o Acquire::Languages=none -o Acquire::Retries=5 -o Acquire::http::Timeout=30 -o APT::Update::Error-Mode=any \
        -o APT::Get::AllowUnauthenticated=false -o APT::Install-Recommends=false "$@"
}

configured() { # of the machine's apt: its mirror of Debian and its release; options of apt
    apt-get "$@" indextargets --format '$(LABEL) $(COMPONENT) $(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
        sed -n 's/^Debian main //p' | head -n 1
}

find_mirror() {
    found=$(configured)
    if [ -z "$found" ]; then # its lists were never fetched, or are gone
        set -- -qq -o Dir::State::Lists="$apt/configured" -o APT::Sandbox::User="$(id -un)" \
            -o Acquire::Retries=5 -o Acquire::http::Timeout=30
        mkdir -p "$apt/configured/partial"
        in_time apt-get "$@" -o Debug::NoLocking=true update || die "the mirror of Debian cannot be had"
        found=$(configured "$@")
    fi
    [ -n "$found" ] || die "apt is configured for no mirror of Debian, or it is not reached"
    mirror=${found% *}
    release=${found##* }
    release=${release%%-*} # of bookworm-updates
}

write_sources() {
    mkdir -p "$apt/sources"
    {
        echo "Types: deb"
        echo "URIs: $mirror"
        echo "Suites: $(printf '%s\n' "$release" "$release-backports" "$KERNEL_SUITE" | sort -u | tr '\n' ' ')"
        echo "Components: main"
        echo "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg"
    } >"$apt/sources/lab.sources"
}

fetch() { # all or nothing
    rm -rf "$apt/cache" "$apt/guest"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/guest"
    get apt-get update && fetch_qemu && fetch_guest
}

fetch_qemu() {
    suite=$release
    if get apt-cache madison qemu-system-x86 | grep -q " $release-backports/main "; then suite=$release-backports; fi
    get apt-get --yes --download-only --reinstall -t "$suite" install qemu-system-x86 qemu-system-data seabios
}

fetch_guest() {
    # shellcheck disable=SC2046 # a list of words, on purpose
    (cd "$apt/guest" && get apt-get -t "$KERNEL_SUITE" download $(kernel_packages) && get apt-get download busybox-static)
}

kernel_packages() { # an image is a package alone, or an empty one that depends on the binary and its modules
    image=$(get apt-cache depends -o APT::Default-Release="$KERNEL_SUITE" linux-image-amd64 |
        sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p')
    get apt-cache depends -o APT::Default-Release="$KERNEL_SUITE" "$image" |
        sed -n 's/^ *Depends: \(linux-\(binary\|modules\)-.*\)$/\1/p'
    echo "$image"
}

unpack() { # the packages of a folder into another
    rm -rf "$2"
    mkdir -p "$2"
    for package in "$1"/*.deb; do dpkg-deb --extract "$package" "$2"; done
}

rm -f "$folder/complete"
find_mirror
write_sources
# Once more from the beginning, as a mirror may be replaced between its lists and its packages.
fetch || fetch || die "its packages cannot be had: the mirror is not reached, or lacks one of$(
    sed -n 's/^Suites://p' "$apt/sources/lab.sources")"
unpack "$apt/cache/archives" "$folder/qemu"
unpack "$apt/guest" "$folder/guest"

kernel=$(ls "$folder/guest/usr/lib/modules" 2>/dev/null || ls "$folder/guest/lib/modules")
for package in "$apt"/cache/archives/qemu-system-x86_*.deb; do qemu=$(dpkg-deb --field "$package" Version); done
rm -rf "$apt/cache" "$apt/guest" # as unpacked they are twice as large already
echo "QEMU $qemu of $suite, kernel $kernel" >"$folder/complete"
cat "$folder/complete"
