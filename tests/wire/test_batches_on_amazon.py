"""A batch by OpenAI's client where everything is Amazon's: DynamoDB, SQS and S3, each over a connection."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest

from penstock.core.batches import turns
from penstock.stores.dynamodb import connection
from tests.functions import dynamodb
from tests.wire import gateway as gateways
from tests.wire.gateway import KEY, MODEL
from tests.wire.upstream import Upstream, answering, completion

LONG = "word " * 30_000


@pytest.mark.timeout(120)
async def test_a_batch_goes_through_dynamodb_sqs_and_s3(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BUDGET", "ATTEMPT"):
        monkeypatch.setattr(connection, name, 30.0)
    for name in ("SOON", "LATER"):
        monkeypatch.setattr(turns, name, 0.1)
    upstream.script = answering(completion(LONG))
    lines = [{"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions"} for number in range(3)]
    asked = {"model": MODEL, "messages": [{"role": "user", "content": LONG}]}
    document = "\n".join(json.dumps(line | {"body": asked}) for line in lines).encode()
    with dynamodb.serve() as amazon:
        places = {
            "PENSTOCK_STATE_URL": amazon.state_url,
            "PENSTOCK_QUEUE_URL": amazon.queue_url,
            "PENSTOCK_OBJECTS_URL": amazon.objects_url,
        }
        serving = gateways.serve(tmp_path, gateways.provider(upstream.url), credentials=places)
        async with serving as gateway, openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY) as client:
            file = await client.files.create(file=("in.jsonl", document), purpose="batch")
            window: Any = "24h"
            batch = await client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window=window
            )
            async with asyncio.timeout(100):
                while batch.status in ("validating", "in_progress", "finalizing"):
                    await asyncio.sleep(0.2)
                    batch = await client.batches.retrieve(batch.id)
            assert batch.status == "completed", batch
            assert batch.output_file_id is not None
            written = (await client.files.content(batch.output_file_id)).text.splitlines()
            assert [json.loads(line)["custom_id"] for line in written] == ["0", "1", "2"]
            assert {
                len(json.loads(line)["response"]["body"]["choices"][0]["message"]["content"]) for line in written
            } == {len(LONG)}
            assert [kept.id async for kept in client.files.list(purpose="batch")] == [file.id]
    assert ("objects", "s3:PutObject") in amazon.seen
    assert ("batches", "dynamodb:PutItem") in amazon.seen
