"""The door for jobs: a batch of SQS messages in, the identifiers of those to deliver again out."""

import asyncio
import gc
import logging
from typing import Any

gc.disable()  # while modules are imported nothing is garbage; to look for it is a tenth of a cold start

from aws_lambda_powertools.utilities.batch import AsyncBatchProcessor, EventType, async_process_partial_response  # noqa: E402
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord  # noqa: E402

from penstock import bootstrap, settings  # noqa: E402
from penstock.succession import Succession  # noqa: E402

gc.freeze()
gc.enable()

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
