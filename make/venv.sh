#!/bin/sh
# Make .venv hold exactly what a lock names: make/venv.sh LOCK
# Nothing is resolved and nothing is compiled: every version and hash stands in the lock, and only wheels are taken.
# PYTHON picks the interpreter; without it, the first suitable one on PATH is used.
set -eu

lock=$1
stamp=.venv/$(basename "$lock").installed
probe='import ssl, sqlite3, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'
identity='import sys; print(sys.base_prefix, sys.version)'

fail() {
    echo "penstock: $1" >&2
    exit 1
}

find_uv() {
    if [ -x .venv/bin/uv ]; then
        echo .venv/bin/uv
    elif uv --version >/dev/null 2>&1; then
        echo uv
    fi
}

# Without uv, a virtual environment needs ensurepip, which some distributions package apart.
suits() {
    "$1" -c "$probe" >/dev/null 2>&1 && { [ -n "$(find_uv)" ] || "$1" -c 'import ensurepip' >/dev/null 2>&1; }
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        suits "$PYTHON" || fail "PYTHON=$PYTHON is not a usable Python 3.11 to 3.14 (it needs ssl, sqlite3 and venv)."
        echo "$PYTHON"
        return
    fi
    for candidate in python3.13 python3.12 python3.11 python3 python3.14; do
        if suits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.11 to 3.14 with ssl, sqlite3 and venv was found on PATH. Install one, or name it: make run PYTHON=/path/to/python3"
}

make_venv() {
    python=$(find_python)
    echo "penstock: making .venv with $("$python" --version)"
    rm -rf .venv
    uv=$(find_uv)
    if [ -n "$uv" ]; then
        "$uv" venv --quiet --no-project --python "$(command -v "$python")" .venv
    else
        "$python" -m venv .venv
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-uv.txt
    fi
}

is_current() {
    [ -n "$(find_uv)" ] && .venv/bin/python -c "$probe" >/dev/null 2>&1 || return 1
    [ -z "${PYTHON:-}" ] || [ "$("$PYTHON" -c "$identity" 2>&1)" = "$(.venv/bin/python -c "$identity")" ]
}

# The package is found by a path file and started by three lines of shell: no build step, no build backend, and a
# checkout whose path holds spaces works.
link_package() {
    site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    printf '%s\n' "$PWD/functions" >"$site/penstock.pth"
    printf '#!/bin/sh\nexec "$(dirname "$0")/python" -m penstock "$@"\n' >.venv/bin/penstock
    chmod +x .venv/bin/penstock
}

is_current || make_venv
if [ "$(cat "$stamp" 2>/dev/null)" != "$(cksum <"$lock") $PWD" ]; then
    echo "penstock: installing $lock"
    "$(find_uv)" pip install --quiet --python .venv/bin/python --require-hashes --no-deps --only-binary :all: -r "$lock"
    link_package
    echo "$(cksum <"$lock") $PWD" >"$stamp"
fi
