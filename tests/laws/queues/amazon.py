"""Queues at a server that speaks SQS, made as CloudFormation would make them."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import boto3


def make_queue(endpoint: str, name: str, *, tries: int = 5, visibility: int = 960, urgent: bool = False) -> str:
    """Make a queue and its dead-letter queue there, and one for what is urgent if that is wanted.

    Answers its address as ``PENSTOCK_QUEUE_URL`` has it.
    """
    sqs = boto3.client(
        "sqs",
        region_name="eu-west-1",
        endpoint_url=endpoint,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    aside = sqs.create_queue(QueueName=f"{name}-poisoned")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=aside, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": tries})
    attributes = {"RedrivePolicy": redrive, "VisibilityTimeout": str(visibility)}
    made = urlsplit(sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])
    if urgent:
        sqs.create_queue(QueueName=f"{name}-urgent", Attributes=attributes)
    sqs.close()
    other = f"&urgent={name}-urgent" if urgent else ""
    return f"sqs://{urlsplit(endpoint).netloc}{made.path}?endpoint={endpoint}&region=eu-west-1{other}"
