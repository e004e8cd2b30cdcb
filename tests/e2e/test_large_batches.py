"""Files that no process could hold: sent, run as a batch, and read again, while the server stays small."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.server import SIMULATED, Server, wait_for

LONG = bool(os.environ.get("PENSTOCK_TEST_LONG"))
LINES = 1280 if LONG else 40
WORDS = 150_000
"""Words of a prompt: a megabyte, less than half of which is answered."""
ROOM = 200
"""MiB that the server may grow by, whatever the files have."""
CONFIG = SIMULATED + "files: {max_bytes: 4294967296}\n"
EDGE = "edge"


def lines() -> Iterator[bytes]:
    """The input, a line at a time."""
    for number in range(LINES):
        words = " ".join(
            random.Random(number).choices(
                ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog"], k=WORDS
            )
        )
        prompt = f"{number} {words} {'x' * 250_000}"
        body = {"model": "echo", "messages": [{"role": "user", "content": prompt}], "max_tokens": 1000}
        asked = {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}
        yield json.dumps(asked).encode() + b"\n"


def form(digest: hashlib._Hash) -> Iterator[bytes]:
    """A form with the input in it."""
    part = f"--{EDGE}\r\nContent-Disposition: form-data; name="
    yield f'{part}"purpose"\r\n\r\nbatch\r\n{part}"file"; filename="in"\r\n\r\n'.encode()
    for line in lines():
        digest.update(line)
        yield line
    yield f"\r\n--{EDGE}--\r\n".encode()


def grown(server: Server, before: int) -> float:
    """MiB that the server has grown by."""
    return (psutil.Process(server.process.pid).memory_info().rss - before) / 2**20


def read(client: httpx.Client, file_id: str, take: hashlib._Hash | list[str]) -> int:
    """Read a file in pieces; answers its bytes."""
    size = 0
    with client.stream("GET", f"/v1/files/{file_id}/content") as answer:
        assert answer.status_code == 200
        if isinstance(take, list):
            for line in answer.iter_lines():
                size += len(line) + 1
                take.append(json.loads(line)["custom_id"])
        else:
            for piece in answer.iter_bytes():
                size += len(piece)
                take.update(piece)
    return size


@pytest.mark.timeout(1800 if LONG else 120)
def test_the_server_stays_small_whatever_the_files_have(tmp_path: Path) -> None:
    with Server(tmp_path, CONFIG) as server, server.client() as client:
        client.timeout = httpx.Timeout(900)
        before = psutil.Process(server.process.pid).memory_info().rss
        sent, got = hashlib.sha256(), hashlib.sha256()
        headers = {"content-type": f"multipart/form-data; boundary={EDGE}"}
        kept = client.post("/v1/files", content=form(sent), headers=headers).json()
        assert kept["bytes"] > LINES * 2**20 * 0.9
        assert grown(server, before) < ROOM, "while it was sent"
        assert read(client, kept["id"], got) == kept["bytes"]
        assert got.digest() == sent.digest()
        assert grown(server, before) < ROOM, "while it was read"

        asked = {"input_file_id": kept["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        path = f"/v1/batches/{client.post('/v1/batches', json=asked).json()['id']}"
        peak = 0.0

        def ended() -> bool:
            nonlocal peak
            peak = max(peak, grown(server, before))
            answer = client.get(path)
            assert answer.status_code in (200, 503), answer.text  # a disk this busy may keep the state waiting
            return answer.status_code == 200 and answer.json()["status"] in ("completed", "failed")

        wait_for(ended, "the batch to end", 1500 if LONG else 100)
        batch = client.get(path).json()
        assert batch["request_counts"] == {"total": LINES, "completed": LINES, "failed": 0}, batch
        assert peak < ROOM, f"{peak:.0f} MiB while it was run"
        answered: list[str] = []
        read(client, batch["output_file_id"], answered)
        assert answered == [str(number) for number in range(LINES)]
        print(f"{kept['bytes'] / 2**30:.2f} GiB in, {LINES} lines: grown by {peak:.0f} MiB")
    left = [found for found in (tmp_path / ".penstock" / "state.objects" / "jobs").rglob("*") if found.is_file()]
    assert not left, "the bodies and answers of lines are forgotten when they are in the file"
