#!/usr/bin/env bash
# Serves a model with the real SGLang on this machine's CPU, installing it first where that was not done yet.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/penstock

usage() {
    cat <<'TEXT'
usage: serve.sh [[--model] HUGGING_FACE_ID_OR_DIRECTORY] [--host 127.0.0.1] [--port 30000] [SGLang's own flags]

Without a model it trains a tiny model that answers "hello", "say kilo", "count to 7" and "as json: kilo" (once, under
two minutes) and serves it as "tiny". Ready when GET /ready answers 200. SGLang's flags are passed on and win:
  --max-running-requests 4 --max-queued-requests 64     how many calls run and wait; more are refused
  --api-key KEY --admin-api-key KEY                     who may call, and who may administer
  --served-model-name NAME --is-embedding ...           see: python -m sglang.launch_server --help
TEXT
}

tiny_model() {
    local model
    model=$cache/tiny-model-$(cat "$here/tiny_model.py" "$here/requirements.txt" | sha256sum | cut -c1-12)
    if [ ! -e "$model" ]; then
        exec 9>"$model.lock"
        flock 9
        if [ ! -e "$model" ]; then
            echo "engine: training the tiny model (once, under two minutes)" >&2
            rm -rf "$model.new"
            "$1/bin/python" -W ignore "$here/tiny_model.py" "$model.new" >&2
            mv "$model.new" "$model"
        fi
        exec 9>&-
    fi
    echo "$model"
}

model="" flags=()
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
    model=$1
    shift
fi
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --model | --model-path)
            [ -n "${2:-}" ] || { echo "engine: $1 needs a Hugging Face id or a directory" >&2; exit 2; }
            model=$2
            shift 2
            ;;
        --model=* | --model-path=*) model=${1#*=}; shift ;;
        *) flags+=("$1"); shift ;;
    esac
done

engine=$("$here/install.sh")
if [ -z "$model" ]; then
    model=$(tiny_model "$engine")
    # One thread: a model this small only loses time to threads that wait for one another on a busy machine.
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
    # The tiny model, left free to write white space inside JSON, would write nothing else.
    flags=(--served-model-name tiny --constrained-json-disable-any-whitespace ${flags[@]+"${flags[@]}"})
fi
if [ -d "$model" ]; then
    export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
fi
unset PYTHONDONTWRITEBYTECODE
export SGLANG_USE_CPU_ENGINE=1 PYTHONPATH=$here/stand_ins${PYTHONPATH:+:$PYTHONPATH}
exec "$engine/bin/python" -W ignore -m sglang.launch_server --model-path "$model" --host 127.0.0.1 --port 30000 \
    --device cpu --dtype float32 --attention-backend torch_native --sampling-backend pytorch \
    --grammar-backend xgrammar --cuda-graph-backend-decode disabled --cuda-graph-backend-prefill disabled \
    --sleep-on-idle --max-total-tokens 16384 --max-running-requests 4 --max-queued-requests 64 \
    --enable-cache-report --enable-metrics \
    ${flags[@]+"${flags[@]}"}
