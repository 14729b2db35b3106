"""A table as infra creates it, in moto."""

from __future__ import annotations

from typing import Any

import boto3

NAME = "tandem-limits"


def create_table(client: Any = None) -> Any:
    client = client or boto3.client("dynamodb")
    client.create_table(
        TableName=NAME,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    return client
