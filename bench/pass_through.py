"""The usual reference: a proxy as it is written in ten minutes with FastAPI and httpx. No keys, no ledger, no errors.

``BENCH_UPSTREAM=http://… uvicorn bench.pass_through:app``.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

app = FastAPI()
client = httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=None, max_keepalive_connections=None))
UPSTREAM = os.environ["BENCH_UPSTREAM"] + "/v1/chat/completions"


@app.post("/v1/chat/completions")
async def chat(request: Request) -> Response:
    """Send the body on, and the answer back."""
    body = await request.json()
    if body.get("stream"):
        return StreamingResponse(_relay(body), media_type="text/event-stream")
    answer = await client.post(UPSTREAM, json=body)
    return Response(answer.content, answer.status_code, media_type="application/json")


async def _relay(body: object) -> AsyncIterator[bytes]:
    async with client.stream("POST", UPSTREAM, json=body) as answer:
        async for data in answer.aiter_raw():
            yield data
