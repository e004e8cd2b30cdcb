#!/usr/bin/env bash
# Installs the locked SGLang for CPUs once per lock, and prints the directory of its virtual environment.
# Safe to run twice at once; an installation that was cut short is made again, never used.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/penstock

say() { echo "engine: $*" >&2; }
stop() { say "$@"; exit 2; }

# The first interpreter on PATH that SGLang's locked wheels exist for, or nothing.
find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11; do
        "$candidate" - 2>/dev/null <<'PY' && return
import ensurepip, sys, venv
if not (3, 11) <= sys.version_info < (3, 14):
    sys.exit(1)
print(sys.executable)
PY
    done
    return 0
}

make_environment() {
    local engine=$1 python uv
    python=$(find_python)
    rm -rf "$engine"
    if uv --version >/dev/null 2>&1; then
        uv=uv
        uv venv --quiet --python "${python:-3.12}" "$engine"
    else
        [ -n "$python" ] || stop "SGLang needs Python 3.11, 3.12 or 3.13 with its venv module, and none is on PATH."
        "$python" -m venv "$engine"
        "$engine/bin/python" -m pip install --quiet --disable-pip-version-check \
            --require-hashes -r "$repository/requirements-uv.txt"
        uv=$engine/bin/uv
    fi
    "$uv" pip install --quiet --python "$engine/bin/python" --require-hashes -r "$here/requirements.txt"
    "$uv" pip install --quiet --python "$engine/bin/python" --require-hashes --no-deps -r "$here/engine.txt"
    # Proves that the parts fit together, and leaves the compiled files that make every start three times as fast.
    env -u PYTHONDONTWRITEBYTECODE SGLANG_USE_CPU_ENGINE=1 PYTHONPATH="$here/stand_ins" "$engine/bin/python" -W ignore \
        -c 'import sglang.launch_server, sglang.srt.entrypoints.http_server, sglang.srt.managers.detokenizer_manager' >&2
    touch "$engine/complete"
}

is_complete() { [ -e "$1/complete" ] && "$1/bin/python" -c '' 2>/dev/null; }

[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] ||
    stop "the locked SGLang runs on Linux x86_64, and this is $(uname -s) $(uname -m)."
lock_hash=$(cat "$here/requirements.txt" "$here/engine.txt" | sha256sum | cut -c1-12)
engine=$cache/engine-$lock_hash
if ! is_complete "$engine"; then
    mkdir -p "$cache"
    exec 9>"$engine.lock"
    flock 9
    if ! is_complete "$engine"; then
        say "installing SGLang into $engine (once, about 6 GB)"
        make_environment "$engine" 9>&-
    fi
    exec 9>&-
fi
echo "$engine"
