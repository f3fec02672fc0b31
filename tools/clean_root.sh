#!/bin/sh
# Run a command over a copy of this checkout, in a clean root of a Debian release: `clean_root.sh SUITE FOLDER COMMAND…`.
#
# FOLDER is made anew by debootstrap, from the mirror that this machine's apt is configured for; apt and pip in there are
# configured as here. The command runs as root with CI=true, in mount and PID namespaces of its own: the root is its root
# by pivot_root (after a chroot the kernel refuses user namespaces, which tests make), and whatever it leaves running ends
# with it. FOLDER stays, to be looked at.
set -eu

die() { echo "clean_root: $*" >&2; exit 1; }
[ $# -ge 3 ] || die "usage: clean_root.sh SUITE FOLDER COMMAND…"
suite=$1
root=$2
shift 2
[ "$(id -u)" = 0 ] || die "making a root takes root: run this as root"
command -v debootstrap >/dev/null || die "debootstrap is missing: tools/setup.sh root"

# Of this machine: what there is of it is copied.
CONFIGURATION="/etc/pip.conf /etc/xdg/pip $HOME/.config/pip $HOME/.pip /etc/resolv.conf /etc/hosts
    /etc/ssl/certs/ca-certificates.crt /usr/local/share/ca-certificates" # of the latter the package makes the former
VARIABLES='^(PIP_|SSL_CERT_|REQUESTS_CA_|[a-zA-Z]+_proxy=|[A-Z]+_PROXY=)'

mirror() {
    found=$(apt-get indextargets --format '$(LABEL) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
        sed -n 's/^Debian main //p' | head -n 1)
    [ -n "$found" ] || die "apt knows no mirror of Debian: run apt-get update"
    echo "$found"
}

copy_configuration() {
    for from in $CONFIGURATION $(grep -ls '^Acquire::' /etc/apt/apt.conf.d/*); do
        [ -e "$from" ] || continue
        case $from in "$HOME"/*) to=/root/${from#"$HOME"/} ;; *) to=$from ;; esac
        mkdir -p "$root$(dirname "$to")"
        cp -RL "$from" "$root$(dirname "$to")/"
    done
}

copy_checkout() {
    mkdir -p "$root/srv/checkout"
    git ls-files -z --cached --others --exclude-standard |
        tar --null --files-from - --ignore-failed-read -cf - | tar -xf - -C "$root/srv/checkout"
}

from=$(mirror)
rm -rf --one-file-system "$root"
mkdir -p "$root"
debootstrap --variant=minbase --include=make,python3 "$suite" "$root" "$from" >"$root.log" 2>&1 ||
    die "debootstrap failed: see $root.log"
copy_configuration
copy_checkout
env | grep -E "$VARIABLES" | sed "s/'/'\\\\''/g; s/^\([^=]*\)=\(.*\)/export \1='\2'/" >"$root/srv/environment" || true

# shellcheck disable=SC2016 # the variables are those of the shell in there
exec unshare --mount --pid --fork --kill-child --propagation private sh -euc '
    mount --bind "$0" "$0"
    cd "$0"
    mount -t proc proc proc
    mount --rbind /sys sys
    mount --rbind /dev dev
    mount -t tmpfs -o mode=1777 tmpfs dev/shm
    mount -t tmpfs tmpfs run
    mkdir -p before
    pivot_root . before
    umount -l /before
    rmdir /before
    cd /srv/checkout
    status=0 # this shell is PID 1 and stays, so that orphans are waited for
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 CI=true \
        sh -c ". /srv/environment; exec \"\$@\"" sh "$@" || status=$?
    exit "$status"' "$root" "$@"
