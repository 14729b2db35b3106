"""Stores responses in a DynamoDB table, so that all orchestrators have them.

| pk | sk | attributes |
|---|---|---|
| `response#ID` | `0000`, `0001`, ... | `body`: a part; `owner`; `parts`: their number; `expires` |

An item of DynamoDB has at most 400 KB, so a body is stored in parts. The first part is written last: without
it, a response does not exist.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from .store import StoreFailed

_PART_BYTES = 380_000


class DynamoStore:
    """A store in a table with the key `pk`, `sk` and the TTL attribute `expires`.

    Args:
        table: the table's name.
        seconds: how long a body is kept.
    """

    def __init__(self, table: str, *, seconds: int) -> None:
        self._table = table
        self._seconds = seconds
        self._lock = threading.Lock()
        self._made: Any = None

    def put(self, id: str, owner: str, body: bytes) -> None:
        expires = str(int(time.time()) + self._seconds)
        parts = [body[at : at + _PART_BYTES] for at in range(0, len(body), _PART_BYTES)] or [b""]
        for number in reversed(range(len(parts))):
            item = {
                **_key(id, number),
                "owner": {"S": owner},
                "parts": {"N": str(len(parts))},
                "expires": {"N": expires},
                "body": {"B": parts[number]},
            }
            self._call("put_item", Item=item)

    def get(self, id: str, owner: str) -> bytes | None:
        first = self._part(id, owner, 0)
        if first is None:
            return None
        bodies = [first["body"]["B"]]
        for number in range(1, int(first["parts"]["N"])):
            part = self._part(id, owner, number)
            if part is None:
                return None
            bodies.append(part["body"]["B"])
        return b"".join(bodies)

    def delete(self, id: str, owner: str) -> bool:
        first = self._part(id, owner, 0)
        if first is None:
            return False
        for number in range(int(first["parts"]["N"])):
            self._call("delete_item", Key=_key(id, number))
        return True

    def close(self) -> None:
        pass

    def _part(self, id: str, owner: str, number: int) -> Any:
        item = self._call("get_item", Key=_key(id, number), ConsistentRead=True).get("Item")
        if item is None or item["owner"]["S"] != owner or int(item["expires"]["N"]) <= time.time():
            return None  # DynamoDB deletes what has expired within days
        return item

    def _call(self, method: str, **fields: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._client, method)(TableName=self._table, **fields)
        except (BotoCoreError, ClientError) as error:
            raise StoreFailed(f"DynamoDB: {error}") from error

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                import boto3  # imported here because it takes 25 MB, which most installations do not need
                from botocore.config import Config

                config = Config(
                    connect_timeout=1,
                    read_timeout=2,
                    retries={"total_max_attempts": 2, "mode": "standard"},
                )
                self._made = boto3.client("dynamodb", config=config)
            return self._made


def _key(id: str, number: int) -> dict[str, dict[str, str]]:
    return {"pk": {"S": f"response#{id}"}, "sk": {"S": f"{number:04}"}}
