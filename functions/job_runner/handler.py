"""The door for jobs: a batch of SQS messages in, the identifiers of those to deliver again out."""

import asyncio
import logging
from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.batch import AsyncBatchProcessor, EventType, async_process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from penstock import bootstrap, settings

log = logging.getLogger("penstock.job_runner")
loop = asyncio.new_event_loop()  # one for the life of the instance: a connection serves the next invocation too
asyncio.set_event_loop(loop)
batch = AsyncBatchProcessor(EventType.SQS, raise_on_entire_batch_failure=False)


@cache
def runner() -> Any:
    """The runner, made with the first batch: while the store is away, batches fail and come again."""
    house, made = bootstrap.build_runner(settings.load())
    loop.run_until_complete(house.open())
    return made


async def run(record: SQSRecord) -> None:
    """Run one message's job; raising gives the message back to the queue."""
    try:
        await runner().run(record.body)
    except Exception as error:  # a message may hold a prompt: the log gets its id and the kind of failure alone
        log.error("message %s failed with %s; the queue delivers it again", record.message_id, type(error).__name__)
        raise


def handler(event: dict[str, Any], context: Any) -> Any:
    """Run every message of the batch at once; answer which ones failed."""
    runner()
    return async_process_partial_response(event, run, batch, context)
