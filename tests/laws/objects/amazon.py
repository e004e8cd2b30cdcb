"""Buckets at a server that speaks S3, made as CloudFormation would make them."""

from __future__ import annotations

import boto3


def make_bucket(endpoint: str, name: str) -> str:
    """Make a bucket there; answers its address as ``PENSTOCK_OBJECTS_URL`` has it."""
    s3 = boto3.client(
        "s3",
        region_name="eu-west-1",
        endpoint_url=endpoint,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.close()
    return f"s3://{name}/under/here?endpoint={endpoint}&region=eu-west-1"
