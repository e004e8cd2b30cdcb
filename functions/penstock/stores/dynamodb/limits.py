"""Meters and holds in DynamoDB: one item for each meter, its rates, slots, spending and holds as attributes.

A grant is one conditional update, or one transaction where a request claims several meters. DynamoDB has no ``max``, so
a rate's update has two forms: ``fresh`` where the arrival time has passed, ``ahead`` where it has not. The form is
chosen by what was last seen; where that was wrong the refused write brings the item along, and the other form follows.
Updates add and never overwrite, so rivals need no retries. A condition cannot add two attributes either: beside the
arrival time ``t_<rate>`` and what is open, ``o_<rate>``, stands ``f_<rate>``, their sum while the time is ahead. A hold
is an attribute of its own, ``h_<id>``: it is what makes a repeated grant or settlement harmless.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from penstock.errors import StateConflict, StateError
from penstock.schema.meter import SLOTS, Claim, Draw, Hold, Meter, Settlement, Verdict, overdue
from penstock.stores._items import Item
from penstock.stores._update import HAS_ROOM, Update

if TYPE_CHECKING:
    from penstock.stores.dynamodb.connection import Connection

DUE = "by_due"
TABLE: dict[str, Any] = {
    "AttributeDefinitions": [
        {"AttributeName": "meter", "AttributeType": "S"},
        {"AttributeName": "holding", "AttributeType": "S"},
        {"AttributeName": "due", "AttributeType": "N"},
    ],
    "KeySchema": [{"AttributeName": "meter", "KeyType": "HASH"}],
    "GlobalSecondaryIndexes": [
        {
            "IndexName": DUE,
            "KeySchema": [
                {"AttributeName": "holding", "KeyType": "HASH"},
                {"AttributeName": "due", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        }
    ],
}

RATE_IS_FRESH = "(attribute_not_exists({time}) OR {time} <= :now)"
RATE_HAS_ROOM = "{time} > :now AND {front} <= {room}"
HOLD_IS_NEW = "attribute_not_exists(#hold)"
HOLD_IS_OPEN = "attribute_exists(#hold)"
NOTHING_NEW = "due = :seen AND holds = :holds"
FAILED = "ConditionalCheckFailed"
ON_FAILURE = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}

TRIES = 12  # a form changes at most when an arrival time passes by
KNOWN = 10_000  # meters whose arrival times are remembered
BATCH = 100  # meters looked after in one round


class Limits:
    """The store's part that keeps meters."""

    _db: Connection
    _seen: dict[str, Meter]

    async def reserve(self, id: str, claims: Sequence[Claim], *, now: int, expires: int) -> Verdict:
        """Grant every claim, or none: one write, or one transaction where there are several claims."""
        if any(claim.impossible for claim in claims):
            meters = await asyncio.gather(*(self.read_meter(claim.meter) for claim in claims))
            pairs = zip(claims, meters, strict=True)
            return Verdict(tuple(r for claim, meter in pairs for r in meter.refusals(claim, now)), {})
        lost: list[Hold] = []
        for _ in range(TRIES):
            try:
                await self._grant(id, claims, now, expires)
                return Verdict((), self._fronts(claims, now), tuple(lost))
            except StateConflict as conflict:
                found = self._refused(claims, conflict)
            if any(id in meter.holds for _, meter in found):
                return Verdict((), self._fronts(claims, now), tuple(lost))  # an attempt was made, its answer lost
            in_the_way = [hold for _, meter in found for hold in meter.expired(now)]
            refusals = tuple(refusal for claim, meter in found for refusal in meter.refusals(claim, now))
            if refusals and not in_the_way:
                return Verdict(refusals, self._fronts(claims, now), tuple(lost))
            lost += [each.hold for each in overdue(in_the_way, now) if await self._settle(each)]
        raise StateError(f"the meters {', '.join(claim.meter for claim in claims)} change faster than can be granted")

    async def settle(self, settlements: Sequence[Settlement]) -> int:
        """End holds, each once; answers how many had not ended yet."""
        return sum(await asyncio.gather(*map(self._settle, settlements)))

    async def end_expired(self, now: int) -> list[Hold]:
        """End the holds that nobody settled in time, as spent; answers those that this call has ended."""
        query = {
            "TableName": self._db.table("limits"),
            "IndexName": DUE,
            "KeyConditionExpression": "holding = :yes AND due <= :now",
            "ExpressionAttributeValues": {":yes": {"S": "yes"}, ":now": {"N": str(now)}},
            "Limit": BATCH,
        }
        ended: list[Hold] = []
        async for page in self._db.pages("Query", query):
            for item in page:
                ended += await self._look_after(item["meter"]["S"], now)
        return ended

    async def read_meter(self, meter: str) -> Meter:
        """A meter as it is now."""
        return _meter(await self._db.get("limits", _key(meter)) or {}, meter)

    async def _grant(self, id: str, claims: Sequence[Claim], now: int, expires: int) -> None:
        writes = [self._write(claim, claim.hold(id, expires), now) for claim in claims]
        if len(writes) == 1:
            answer = await self._db.call("UpdateItem", {**writes[0], "ReturnValues": "ALL_NEW"})
            self._see(claims[0].meter, _meter(answer["Attributes"], claims[0].meter))
            return
        updates = [{"Update": write} for write in writes]
        await self._db.call("TransactWriteItems", {"TransactItems": updates, "ClientRequestToken": uuid4().hex})
        for claim in claims:
            seen = self._seen.get(claim.meter, Meter())
            seen.grant(claim, now, None)
            self._see(claim.meter, seen)

    def _write(self, claim: Claim, hold: Hold | None, now: int) -> dict[str, Any]:
        """The conditional update that grants a claim, in the form that what was last seen suggests."""
        update = Update()
        tats = self._seen.get(claim.meter, Meter()).tats
        for number, draw in enumerate(claim.draws):
            _draw(update, str(number), draw, now, ahead=tats.get(draw.rate, 0) > now)
        for number, draw in enumerate(claim.reserves):
            _reserve(update, f"_{number}", draw, now, ahead=tats.get(draw.rate, 0) > now)
        if claim.slots:
            update.add_within("#slots", "slots", claim.slots, claim.max_slots)
        for number, (window, most) in enumerate(claim.ceilings):
            update.add_within(f"#spent{number}", f"s_{window}", claim.nanos, most)
        if hold is not None:
            update.conditions.append(HOLD_IS_NEW)
            update.sets.append(f"{update.name('#hold', f'h_{hold.id}')} = {update.text(':hold', _dump(hold))}")
            update.sets.append(f"due = if_not_exists(due, {update.value(':due', hold.expires)})")
            update.sets.append(f"holding = {update.text(':yes', 'yes')}")
            update.adds.append(f"holds {update.value(':one', 1)}")
        if claim.forget:
            update.sets.append(f"expires = {update.value(':forget', claim.forget)}")
        else:
            update.removes.append("expires")
        return update.payload(self._db.table("limits"), _key(claim.meter)) | ON_FAILURE

    async def _settle(self, settlement: Settlement) -> bool:
        hold = settlement.hold
        for _ in range(TRIES):
            payload = self._settling(settlement).payload(self._db.table("limits"), _key(hold.meter))
            try:
                answer = await self._db.call("UpdateItem", payload | {"ReturnValues": "ALL_NEW", **ON_FAILURE})
            except StateConflict as conflict:
                [item] = refused(conflict)
                meter = _meter(item or {}, hold.meter)
                self._see(hold.meter, meter)
                if hold.id not in meter.holds:
                    return False
                continue
            meter = _meter(answer["Attributes"], hold.meter)
            self._see(hold.meter, meter)
            await self._forget_windows(hold.meter, meter)
            return True
        raise StateError(f"the meter {hold.meter} changes faster than can be settled")

    def _settling(self, settlement: Settlement) -> Update:
        """The update that ends a hold, in the form that what was last seen suggests."""
        hold, used = settlement.hold, dict(settlement.used)
        tats = self._seen.get(hold.meter, Meter()).tats
        update = Update()
        update.conditions.append(HOLD_IS_OPEN)
        update.removes.append(update.name("#hold", f"h_{hold.id}"))
        update.adds.append(f"holds {update.value(':less', -1)}")
        for number, (rate, cost) in enumerate(hold.reserved):
            taken = Taken(rate, cost, used.get(rate, 0), settlement.at)
            _take(update, str(number), taken, ahead=tats.get(rate, 0) > settlement.at)
        if hold.slots:
            update.adds.append(f"slots {update.value(':slots', -hold.slots)}")
        for number, window in enumerate(hold.windows):
            name = update.name(f"#spent{number}", f"s_{window}")
            update.adds.append(f"{name} {update.value(':nanos', settlement.nanos - hold.nanos)}")
        return update

    async def _forget_windows(self, name: str, meter: Meter) -> None:
        """Drop windows of budgets that are long over, so that the item stays small; there is one a day at most."""
        kept: dict[int, list[str]] = {}
        for window in sorted(meter.spent):
            kept.setdefault(len(window), []).append(window)  # names of a period are of one length
        over = [window for windows in kept.values() for window in windows[:-3]]
        if over:
            update = Update()
            for number, window in enumerate(over):
                update.removes.append(update.name(f"#spent{number}", f"s_{window}"))
            await self._db.call("UpdateItem", update.payload(self._db.table("limits"), _key(name)))

    async def _look_after(self, name: str, now: int) -> list[Hold]:
        """End a meter's expired holds, and note when the next one is due."""
        before = await self.read_meter(name)
        ended = [each.hold for each in overdue(before.expired(now), now) if await self._settle(each)]
        item = await self._db.get("limits", _key(name)) or {}
        if "due" not in item:
            return ended
        left = _meter(item, name).holds.values()
        update = Update()
        update.conditions.append(NOTHING_NEW)
        update.values[":seen"], update.values[":holds"] = item["due"], item["holds"]
        if left:
            update.sets.append(f"due = {update.value(':due', min(hold.expires for hold in left))}")
        else:
            update.removes += ["due", "holding"]
        with suppress(StateConflict):  # there is a new hold, or another has looked after it: the next round does
            await self._db.call("UpdateItem", update.payload(self._db.table("limits"), _key(name)))
        return ended

    def _refused(self, claims: Sequence[Claim], conflict: StateConflict) -> list[tuple[Claim, Meter]]:
        """The claims that were refused, each with its meter as it is."""
        found = []
        for claim, item in zip(claims, refused(conflict), strict=True):
            if item is not None:
                meter = _meter(item, claim.meter)
                self._see(claim.meter, meter)
                found.append((claim, meter))
        return found

    def _see(self, name: str, meter: Meter) -> None:
        if len(self._seen) >= KNOWN:
            for oldest in list(self._seen)[: KNOWN // 10]:
                del self._seen[oldest]
        self._seen[name] = Meter(meter.tats, open=meter.open)

    def _fronts(self, claims: Sequence[Claim], now: int) -> dict[tuple[str, str], int]:
        seen = {claim.meter: self._seen.get(claim.meter, Meter()) for claim in claims}
        return {(name, rate): front for name, meter in seen.items() for rate, front in meter.fronts(now).items()}


class Taken(NamedTuple):
    """What a settled hold had reserved of a rate (``cost``) and ``used``, ``at`` a time; all in nanoseconds."""

    rate: str
    cost: int
    used: int
    at: int


def _draw(update: Update, number: str, draw: Draw, now: int, *, ahead: bool) -> None:
    """Take of a rate at once."""
    rate, cost, depth = draw
    time = update.name(f"#t{number}", f"t_{rate}")
    update.value(":now", now)
    if ahead:
        room = update.value(f":room{number}", now + depth - cost)
        update.conditions.append(RATE_HAS_ROOM.format(time=time, front=time, room=room))
        update.sets.append(f"{time} = {time} + {update.value(f':cost{number}', cost)}")
    else:
        update.conditions.append(RATE_IS_FRESH.format(time=time))
        update.sets.append(f"{time} = {update.value(f':tat{number}', now + cost)}")


def _reserve(update: Update, number: str, draw: Draw, now: int, *, ahead: bool) -> None:
    """Reserve of a rate, to be taken when it settles."""
    rate, cost, depth = draw
    time, held = update.name(f"#t{number}", f"t_{rate}"), update.name(f"#o{number}", f"o_{rate}")
    front = update.name(f"#f{number}", f"f_{rate}")
    update.value(":now", now)
    more = update.value(f":cost{number}", cost)
    if ahead:
        room = update.value(f":room{number}", now + depth - cost)
        update.conditions.append(RATE_HAS_ROOM.format(time=time, front=front, room=room))
        update.sets += [f"{held} = {held} + {more}", f"{front} = {front} + {more}"]
    else:
        update.conditions.append(RATE_IS_FRESH.format(time=time))
        update.conditions.append(HAS_ROOM.format(name=held, room=update.value(f":room{number}", depth - cost)))
        before, reached = f"if_not_exists({held}, {update.value(':zero', 0)})", update.value(f":f{number}", now + cost)
        update.sets += [f"{time} = :now", f"{held} = {before} + {more}", f"{front} = {before} + {reached}"]


def _take(update: Update, number: str, taken: Taken, *, ahead: bool) -> None:
    """Take what was used of what was reserved; the rest is open no more."""
    rate, cost, used, at = taken
    time, held = update.name(f"#t{number}", f"t_{rate}"), update.name(f"#o{number}", f"o_{rate}")
    front = update.name(f"#f{number}", f"f_{rate}")
    update.value(":now", at)
    update.sets.append(f"{held} = {held} - {update.value(f':cost{number}', cost)}")
    if ahead:
        update.conditions.append(f"{time} > :now")
        update.sets.append(f"{time} = {time} + {update.value(f':used{number}', used)}")
        update.sets.append(f"{front} = {front} + {update.value(f':f{number}', used - cost)}")
    else:
        update.conditions.append(RATE_IS_FRESH.format(time=time))
        update.sets.append(f"{time} = {update.value(f':tat{number}', at + used)}")
        update.sets.append(f"{front} = {held} + {update.value(f':f{number}', at + used - cost)}")


def refused(conflict: StateConflict) -> list[Item | None]:
    """The items at which the writes of a refused call failed, in their order: empty where there is none, ``None`` for a
    write that was not at fault.
    """
    body = conflict.__cause__.args[0] if conflict.__cause__ else {}
    reasons = body.get("CancellationReasons")
    if reasons is None:
        return [body.get("Item") or {}]
    return [reason.get("Item") or {} if reason["Code"] == FAILED else None for reason in reasons]


def _key(meter: str) -> Item:
    return {"meter": {"S": meter}}


def _meter(item: Item, name: str) -> Meter:
    meter = Meter()
    for attribute, ((kind, value),) in ((attribute, typed.items()) for attribute, typed in item.items()):
        if attribute.startswith("t_"):
            meter.tats[attribute[2:]] = int(value)
        elif attribute.startswith("o_"):
            meter.open[attribute[2:]] = int(value)
        elif attribute.startswith("s_"):
            meter.spent[attribute[2:]] = int(value)
        elif attribute.startswith("h_"):
            meter.holds[attribute[2:]] = _load(attribute[2:], name, value)
        elif attribute == SLOTS and kind == "N":
            meter.slots = int(value)
    return meter


def _dump(hold: Hold) -> str:
    values = [hold.expires, hold.slots, hold.nanos, list(hold.windows), dict(hold.reserved)]
    return json.dumps(values, separators=(",", ":"))


def _load(id: str, meter: str, text: str) -> Hold:
    expires, slots, nanos, windows, reserved = json.loads(text)
    return Hold(id, meter, expires, slots, nanos, tuple(windows), tuple(reserved.items()))
