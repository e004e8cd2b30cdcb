"""The door for jobs: a batch of SQS messages in, the identifiers of those to deliver again out."""

import asyncio
import logging
from typing import Any

from aws_lambda_powertools.utilities.batch import AsyncBatchProcessor, EventType, async_process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from penstock import bootstrap, settings
from penstock.succession import Succession

log = logging.getLogger("penstock.job_runner")
loop = asyncio.new_event_loop()  # one for the life of the instance: a connection serves the next invocation too
asyncio.set_event_loop(loop)
batch = AsyncBatchProcessor(EventType.SQS, raise_on_entire_batch_failure=False)


# The house is built with the first batch: while the store is away, batches fail and come again.
succession = Succession(lambda: bootstrap.build(settings.load()))


async def run(record: SQSRecord) -> None:
    """Run one message's job; raising gives the message back to the queue."""
    try:
        await succession.house.runner.run(record.body)
    except Exception as error:  # a message may hold a prompt: the log gets its id and the kind of failure alone
        log.error("message %s failed with %s; the queue delivers it again", record.message_id, type(error).__name__)
        raise


def handler(event: dict[str, Any], context: Any) -> Any:
    """Run every message of the batch at once; answer which ones failed."""
    loop.run_until_complete(succession.current())
    return async_process_partial_response(event, run, batch, context)
