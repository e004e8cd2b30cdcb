"""One ``UpdateItem`` of DynamoDB's in the making: its expressions, and the names and values that they speak of."""

from __future__ import annotations

from typing import Any

from penstock.stores._items import Item

HAS_ROOM = "(attribute_not_exists({name}) OR {name} <= {room})"


class Update:
    """Collects what an update sets, adds, removes and demands. Names are written ``#name``, values ``:value``."""

    def __init__(self) -> None:
        self.sets: list[str] = []
        self.adds: list[str] = []
        self.removes: list[str] = []
        self.conditions: list[str] = []
        self.names: dict[str, str] = {}
        self.values: Item = {}

    def name(self, placeholder: str, attribute: str) -> str:
        """A placeholder for an attribute's name."""
        self.names[placeholder] = attribute
        return placeholder

    def value(self, placeholder: str, number: int) -> str:
        """A placeholder for a number."""
        self.values[placeholder] = {"N": str(number)}
        return placeholder

    def text(self, placeholder: str, text: str) -> str:
        """A placeholder for a text."""
        self.values[placeholder] = {"S": text}
        return placeholder

    def add_within(self, placeholder: str, attribute: str, amount: int, most: int) -> None:
        """Add to a number that may not become more than ``most``; one that is not there is 0."""
        name, value = self.name(placeholder, attribute), placeholder.replace("#", ":")
        self.conditions.append(HAS_ROOM.format(name=name, room=self.value(f"{value}_room", most - amount)))
        self.adds.append(f"{name} {self.value(value, amount)}")

    def payload(self, table: str, key: Item) -> dict[str, Any]:
        """The parameters of ``UpdateItem``."""
        parts = (("SET", self.sets), ("ADD", self.adds), ("REMOVE", self.removes))
        payload: dict[str, Any] = {
            "TableName": table,
            "Key": key,
            "UpdateExpression": " ".join(f"{verb} {', '.join(clauses)}" for verb, clauses in parts if clauses),
        }
        if self.conditions:
            payload["ConditionExpression"] = " AND ".join(self.conditions)
        if self.names:
            payload["ExpressionAttributeNames"] = self.names
        if self.values:
            payload["ExpressionAttributeValues"] = self.values
        return payload
