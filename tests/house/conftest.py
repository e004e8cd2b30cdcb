"""What the rules about doors share: the environment that Lambda gives them, with a DynamoDB that answers."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.house.tree import SOURCES

FOREIGN = ("AWS_", "PENSTOCK_", "PYTHONDONTWRITEBYTECODE")
"""What the machine's own environment must not tell a door: with the last, each import would compile anew."""


@pytest.fixture(scope="session")
def lambda_environment() -> Iterator[dict[str, str]]:
    """What template.yaml gives to a function, with credentials that open nothing and tables on this machine."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    # The first call makes the server import its DynamoDB, which takes longer than a door waits for an answer.
    testing = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    boto3.client("dynamodb", endpoint_url=endpoint, **testing).list_tables()
    yield {
        **{name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)},
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "PENSTOCK_STATE_URL": f"dynamodb://penstock?endpoint={endpoint}",
        "PENSTOCK_QUEUE_URL": "sqs://penstock",
        "PYTHONPATH": str(SOURCES),
    }
    server.stop()
