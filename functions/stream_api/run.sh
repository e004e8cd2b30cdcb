#!/bin/sh
# The door for streamed calls: the server to which the Lambda Web Adapter forwards API Gateway's events.
set -eu

# Only the adapter reaches this port, so here, and nowhere else, its x-amzn-request-context header is believed.
export PENSTOCK_DOOR=stream_api

root=${LAMBDA_TASK_ROOT:-$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)}
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

# The adapter drops idle connections after 4 s; the server must not be the first to close one.
exec python -m uvicorn penstock.asgi:app --host 127.0.0.1 --port "${AWS_LWA_PORT:-8080}" \
    --loop uvloop --http httptools --lifespan on --no-access-log --timeout-keep-alive 65
