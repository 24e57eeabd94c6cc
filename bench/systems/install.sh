#!/bin/sh
# Installs the rivals on a Debian 12 machine, from Debian's own archive: ejabberd of this release, nats-server of the next one.
# Run as root. Neither is started as a service: campanile-bench starts its own processes in temporary directories.
set -eu

# nats-server 2.9 of Debian 12 has no `sync_interval`: it cannot be told to fsync before it acks.
nats_from=trixie

if [ "$(id -u)" != 0 ]; then
    echo "install.sh: must run as root" >&2
    exit 2
fi
. /etc/os-release
export DEBIAN_FRONTEND=noninteractive
work=$(mktemp -d)
# A package must not start a service of its own beside the one measured (see invoke-rc.d(8)).
policy=/usr/sbin/policy-rc.d
ours=
cleanup() {
    rm -rf "$work"
    if [ -n "$ours" ]; then rm -f "$policy"; fi
}
trap cleanup EXIT
if [ ! -e "$policy" ]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

apt-get update
apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends ejabberd

# Whichever mirror this machine uses for its release also has the next one.
mirror=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $VERSION_CODENAME" "Created-By: Packages" |
    grep -v security | sort -u | head -n 1)
if [ -z "$mirror" ]; then
    echo "install.sh: apt knows no mirror of $VERSION_CODENAME" >&2
    exit 1
fi

# Lists and sources of its own, so that nothing else on this machine is ever upgraded to that release.
key=/usr/share/keyrings/debian-archive-keyring.gpg
mkdir -p "$work/lists/partial" "$work/parts"
echo "deb [signed-by=$key] $mirror $nats_from main" >"$work/sources.list"
next() {
    apt-get -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts="$work/parts" \
        -o Dir::State::Lists="$work/lists" -o APT::Sandbox::User=root "$@"
}
next update
(cd "$work" && next download "nats-server/$nats_from")
dpkg -i "$work"/nats-server_*.deb

# Nor at the next boot.
if [ -d /run/systemd/system ]; then systemctl disable --quiet ejabberd nats-server; fi

nats-server --version
dpkg-query -W -f '${Package} ${Version}\n' ejabberd nats-server
