#!/usr/bin/env bash
# Prepares a machine that has Swift: system libraries (Debian's packages), the
# Python environment of the tests in .venv, and generated code that fits the
# installed FlatBuffers. Does only what is missing; run it as often as you like.
#
#   QTOOLS_SKIP_PYTHON=1   leave Python out (enough to build the programs)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { echo "setup.sh: $*"; }
fail() {
    echo "setup.sh: error: $1" >&2
    shift
    for line in "$@"; do echo "hint: $line" >&2; done
    exit 1
}

skip_python=${QTOOLS_SKIP_PYTHON:-0}

# ------------------------------------------------------------ system packages

packages=(
    libprotobuf-c-dev protobuf-c-compiler
    zlib1g-dev
    libdnnl-dev
    libflatbuffers-dev flatbuffers-compiler
    pkg-config
)
missing=()

if command -v dpkg-query >/dev/null 2>&1 && command -v apt-get >/dev/null 2>&1; then
    installed() {
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
    }
    for package in "${packages[@]}"; do
        # pkgconf, Debian 12's pkg-config, also satisfies the name.
        [ "$package" = pkg-config ] && command -v pkg-config >/dev/null 2>&1 && continue
        installed "$package" || missing+=("$package")
    done
    if [ "$skip_python" != 1 ]; then
        command -v node >/dev/null 2>&1 || missing+=(nodejs)
        if ! command -v python3 >/dev/null 2>&1; then
            missing+=(python3 python3-venv)
        elif ! python3 -c 'import ensurepip, venv' >/dev/null 2>&1; then
            missing+=(python3-venv)
        fi
    fi
    if [ "${#missing[@]}" -gt 0 ]; then
        as_root=()
        if [ "$(id -u)" -ne 0 ]; then
            command -v sudo >/dev/null 2>&1 ||
                fail "packages are missing: ${missing[*]}" "as root: apt-get install ${missing[*]}"
            as_root=(sudo)
        fi
        say "installing ${missing[*]}"
        # One failing package source need not matter for ours: the install decides.
        "${as_root[@]}" apt-get update -qq || say "apt-get update did not succeed, going on"
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
            fail "apt-get could not install: ${missing[*]}" "the versions tried are Debian 12's; see its message above"
    fi
else
    # Elsewhere: say what is missing, install nothing.
    find_program() { command -v "$1" >/dev/null 2>&1 || missing+=("$1 ($2)"); }
    find_header() {
        printf '#include <%s>\n' "$1" | "${CC:-cc}" -x "$2" -fsyntax-only - >/dev/null 2>&1 ||
            missing+=("$1 ($3)")
    }
    find_program protoc-c "the compiler of protobuf-c"
    find_program flatc "FlatBuffers' compiler"
    find_program pkg-config "pkg-config"
    if command -v "${CC:-cc}" >/dev/null 2>&1; then
        find_header protobuf-c/protobuf-c.h c "protobuf-c 1.4, headers and library"
        find_header zlib.h c "zlib, headers and library"
        find_header oneapi/dnnl/dnnl.h c "oneDNN 2.6, headers and library"
        find_header flatbuffers/flatbuffers.h c++ "FlatBuffers, headers"
    else
        missing+=("cc (a C compiler, to look for headers)")
    fi
    if [ "$skip_python" != 1 ]; then
        find_program node "Node.js"
        find_program python3 "Python 3.11 or newer with venv"
    fi
    if [ "${#missing[@]}" -gt 0 ]; then
        fail "missing on this machine: $(printf '%s; ' "${missing[@]}")" \
            "no apt-get here: install these with the system's own package manager" \
            "Debian 12's names: ${packages[*]}"
    fi
fi

command -v swift >/dev/null 2>&1 ||
    fail "'swift' not found" "install Swift 6 or newer (swift.org/install) and put it on PATH"

# ------------------------------------------- generated code fits the libraries

# FlatBuffers' generated header refuses to compile with headers of any other
# version than the flatc that wrote it.
header=Sources/CDLCSchema/generated/dlc_generated.h
if [ -f Schemas/dlc.fbs ]; then
    have=$(flatc --version | sed -n 's/^flatc version \([0-9.]*\).*/\1/p')
    [ -n "$have" ] || fail "flatc did not tell its version: $(flatc --version 2>&1)"
    want=
    if [ -f "$header" ]; then
        part() { sed -n "s/.*FLATBUFFERS_VERSION_$1 == \([0-9]*\).*/\1/p" "$header" | head -n 1; }
        want=$(part MAJOR).$(part MINOR).$(part REVISION)
    fi
    # A generator before 2.0.7 writes no such line; the header then fits any.
    if [ "$want" != "$have" ] && [ "$want" != ".." ]; then
        say "writing $header for FlatBuffers $have (was ${want:-not there})"
        mkdir -p "$(dirname "$header")"
        flatc --cpp -o "$(dirname "$header")" Schemas/dlc.fbs
    fi
fi

# --------------------------------------------------------------------- Python

if [ "$skip_python" = 1 ]; then
    say "QTOOLS_SKIP_PYTHON=1: no Python environment"
else
    stamp=.venv/requirements.installed
    if [ -x .venv/bin/python ] && .venv/bin/python -c '' >/dev/null 2>&1 &&
        cmp -s scripts/requirements.txt "$stamp"; then
        :
    else
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
            fail "Python 3.11 or newer is needed, found $(python3 --version 2>&1)"
        say "making the Python environment .venv"
        # An environment that no longer runs (moved, its Python gone) is remade.
        if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
            python3 -m venv --clear .venv ||
                fail "python3 could not make a virtual environment" "Debian: apt-get install python3-venv"
        fi
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r scripts/requirements.txt ||
            fail "pip could not install scripts/requirements.txt" "QTOOLS_SKIP_PYTHON=1 leaves Python out"
        cp scripts/requirements.txt "$stamp"
    fi
fi

say "ready"
