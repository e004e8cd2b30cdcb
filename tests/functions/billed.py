"""DynamoDB without a socket that notes each call as it is answered, and what AWS would bill for its writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from penstock.stores.dynamodb import TABLES
from tests.laws.stores.moto_in_process import Answer, InProcess

KIB = 1024

Item = dict[str, dict[str, Any]]
Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Billed:
    """One call: what it did to which table, and the write units that it took, those of indexes included."""

    action: str
    table: str
    units: int = 0


class Till(InProcess):
    """A client whose ``calls`` stand in the order of their answers. Those in ``held`` wait until ``release``."""

    def __init__(self) -> None:
        self.calls: list[Billed] = []
        self.held: set[str] = set()
        self.waiting: list[str] = []
        self._gate = asyncio.Event()

    def release(self) -> None:
        """Answer everything that waits, and hold nothing any more."""
        self.held.clear()
        self._gate.set()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        body: bytes = b"",
        deadline: float,
        connect_timeout: float = 5.0,
    ) -> Answer:
        """Answer after a turn of the loop, as no answer comes at once over a network."""
        action, payload = _action(headers), json.loads(body)
        kind = _kind(payload)
        if kind in self.held:
            self.waiting.append(f"{action} {kind}")
            await self._gate.wait()
        await asyncio.sleep(0)
        updates = _updates(action, payload)
        before = [await self._item(headers, url, update) for update in updates]
        answer = await super().request(method, url, headers=headers, body=body, deadline=deadline)
        after = [await self._item(headers, url, update) for update in updates]
        each = 2 if action == "TransactWriteItems" else 1
        units = sum(_units(kind, *change, each) for change in zip(before, after, strict=True))
        units += sum(_units(kind, {}, item, each) for item in _puts(action, payload))
        self.calls.append(Billed(action, kind, units))
        return answer

    async def aclose(self) -> None:
        """There is nothing to close."""

    async def _item(self, headers: Headers, url: str, update: dict[str, Any]) -> Item:
        told = [(name, _as_get(name, value)) for name, value in headers]
        body = json.dumps({name: update[name] for name in ("TableName", "Key")} | {"ConsistentRead": True}).encode()
        answer = await super().request("POST", url, headers=told, body=body, deadline=0)
        found: Item = json.loads(answer.body).get("Item", {})
        return found


def _action(headers: Headers) -> str:
    [target] = [value for name, value in headers if name.lower() == "x-amz-target"]
    return target.rpartition(".")[2]


def _as_get(name: str, value: str) -> str:
    return value.rpartition(".")[0] + ".GetItem" if name.lower() == "x-amz-target" else value


def _kind(payload: dict[str, Any]) -> str:
    """The kind of the one table that a call is about."""
    if "TransactItems" in payload:
        payload = next(iter(payload["TransactItems"][0].values()))
    table: str = payload.get("TableName") or next(iter(payload["RequestItems"]))
    return table.rpartition("-")[2]


def _updates(action: str, payload: dict[str, Any]) -> list[dict[str, Any]]:
    if action == "TransactWriteItems":
        return [each["Update"] for each in payload["TransactItems"] if "Update" in each]
    return [payload] if action == "UpdateItem" else []


def _puts(action: str, payload: dict[str, Any]) -> list[Item]:
    """The whole items that a call writes; each of them is new."""
    if action == "BatchWriteItem":
        return [put["PutRequest"]["Item"] for puts in payload["RequestItems"].values() for put in puts]
    return [payload["Item"]] if action == "PutItem" else []


def _units(kind: str, before: Item, after: Item, each: int) -> int:
    """A unit for each KiB of the item, or two in a transaction; and for each index one to enter and one to leave."""
    units = each * max(_kib(before), _kib(after))
    for index in TABLES[kind].get("GlobalSecondaryIndexes", ()):
        whole = index["Projection"]["ProjectionType"] == "ALL"
        names = {part["AttributeName"] for part in index["KeySchema"]}
        was, now = (_entry(item, names) for item in (before, after))
        if was != now or (whole and before != after):
            units += sum(_kib(item) if whole else 1 for item, entry in ((before, was), (after, now)) if entry)
    return units


def _entry(item: Item, names: set[str]) -> Item:
    """What an index keeps of an item: nothing where a part of its key lacks."""
    return {name: item[name] for name in names} if names <= item.keys() else {}


def _kib(item: Item) -> int:
    size = sum(len(name) + len(json.dumps(value)) for name, value in item.items())
    return max(1, -(-size // KIB))
