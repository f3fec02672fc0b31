#!/bin/sh
# Fetch the parts of the laboratory (lab.py) into a folder: `lab_fetch.sh FOLDER`. Nothing is installed on this machine.
#
# FOLDER/qemu gets QEMU with the libraries that this machine lacks, FOLDER/guest a kernel with its modules and busybox:
# packages of Debian, unpacked. They come from the mirror that this machine's apt is configured for: other suites of it
# are asked for by a list of sources of their own, with lists and a cache in FOLDER/apt. QEMU is of this machine's
# release or its backports, whichever is newer (the Intel 82576 came with QEMU 8); the kernel is of KERNEL_SUITE, whose
# driver of that card has zero-copy AF_XDP. FOLDER/complete is written last, and names the versions.
set -eu

KERNEL_SUITE=trixie-backports

die() { echo "lab: $*" >&2; exit 1; }
[ $# = 1 ] || die "usage: lab_fetch.sh FOLDER"
mkdir -p "$1"
folder=$(cd "$1" && pwd)
apt=$folder/apt
command -v apt-get >/dev/null || die "the parts are packages of Debian, and there is no apt-get"
[ "$(dpkg --print-architecture)" = amd64 ] || die "its cards are emulated for amd64 only"

# Everything that apt writes is in the folder; what it knows to be installed is what this machine has.
get() {
    tool=$1
    shift
    "$tool" -qq -o APT::Sandbox::User="$(id -un)" -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$apt/sources" \
        -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt/cache" -o Debug::NoLocking=true \
        -o Acquire::Languages=none -o APT::Get::AllowUnauthenticated=false -o APT::Install-Recommends=false "$@"
}

configured() { # of the machine's apt: its mirror of Debian and its release
    apt-get indextargets --format '$(LABEL) $(COMPONENT) $(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
        sed -n 's/^Debian main //p' | head -n 1
}

write_sources() {
    found=$(configured)
    [ -n "$found" ] || die "apt knows no mirror of Debian: run apt-get update"
    mirror=${found% *}
    release=${found##* }
    release=${release%%-*} # of bookworm-updates
    mkdir -p "$apt/sources" "$apt/lists/partial" "$apt/cache/archives/partial"
    {
        echo "Types: deb"
        echo "URIs: $mirror"
        echo "Suites: $(printf '%s\n' "$release" "$release-backports" "$KERNEL_SUITE" | sort -u | tr '\n' ' ')"
        echo "Components: main"
        echo "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg"
    } >"$apt/sources/lab.sources"
}

unpack() { # the packages named, into a folder; they are fetched first
    into=$1
    shift
    mkdir -p "$into" "$apt/packages"
    (cd "$apt/packages" && get apt-get download "$@")
    for package in "$apt"/packages/*.deb; do dpkg-deb --extract "$package" "$into"; done
    rm -r "$apt/packages"
}

offered() { # whether a suite has QEMU
    get apt-cache madison qemu-system-x86 | grep -q " $1/main "
}

kernel_packages() { # an image is a package alone, or an empty one that depends on the binary and its modules
    image=$(get apt-cache depends -o APT::Default-Release="$KERNEL_SUITE" linux-image-amd64 |
        sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p')
    get apt-cache depends -o APT::Default-Release="$KERNEL_SUITE" "$image" |
        sed -n 's/^ *Depends: \(linux-\(binary\|modules\)-.*\)$/\1/p'
    echo "$image"
}

write_sources
get apt-get update || die "the mirror has not all of: $(sed -n 's/^Suites: //p' "$apt/sources/lab.sources")"

rm -rf "$folder/qemu" "$folder/guest" "$folder/complete"
rm -f "$apt"/cache/archives/*.deb
suite=$release
offered "$release-backports" && suite=$release-backports
get apt-get --yes --download-only --reinstall -t "$suite" install qemu-system-x86 qemu-system-data seabios ||
    die "QEMU of $suite cannot be had"
mkdir -p "$folder/qemu"
for package in "$apt"/cache/archives/*.deb; do dpkg-deb --extract "$package" "$folder/qemu"; done

# shellcheck disable=SC2046 # a list of words, on purpose
unpack "$folder/guest" -t "$KERNEL_SUITE" $(kernel_packages) || die "the kernel of $KERNEL_SUITE cannot be had"
unpack "$folder/guest" busybox-static || die "busybox-static cannot be had"

kernel=$(ls "$folder/guest/usr/lib/modules" 2>/dev/null || ls "$folder/guest/lib/modules")
for package in "$apt"/cache/archives/qemu-system-x86_*.deb; do qemu=$(dpkg-deb --field "$package" Version); done
echo "QEMU $qemu of $suite, kernel $kernel" >"$folder/complete"
cat "$folder/complete"
