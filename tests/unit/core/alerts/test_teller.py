"""What becomes of a telling whose channel is odd: not configured, silent, or failing in ways that nobody foresaw."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from penstock import plugs
from penstock.core.alerts import teller
from penstock.core.alerts.judging import judge
from penstock.core.alerts.teller import Teller
from penstock.core.ports import Channel, Store
from penstock.schema.alert import SENT, WAITING, Message, Rule, Telling, Watch

RULE = Rule("r", "summary.error_rate", ">", 0.5)


class Odd:
    """Does what it is told to instead of telling."""

    def __init__(self, what: str) -> None:
        self._what = what

    async def tell(self, message: Message, *, timeout: float) -> None:
        if self._what == "breaks":
            raise KeyError("a plug's own mistake")
        if self._what == "hangs":
            await asyncio.Event().wait()

    async def aclose(self) -> None:
        pass


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store: Store = plugs.load("stores", "sqlite").connect(f"sqlite:///{tmp_path}/state.db", None)
    await store.open()
    yield store
    await store.close()


async def told(store: Store, channel: Channel | None, *names: str) -> tuple[Telling, ...]:
    """The tellings of an alert after one try."""
    rule = replace(RULE, channels=names or ("odd",))
    watch = judge(Watch("r", 1, rule), rule, 1.0, 1000.0)
    await store.replace_watch(watch)
    telling = Teller(store, lambda name: channel if name == "odd" else Odd("tells"), timeout=0.05)
    await telling.tell([watch])
    found = await store.find_watch("r")
    assert found is not None
    return found.alerts[0].tellings


async def test_a_channel_that_is_not_configured_is_said_to_be_so(store: Store) -> None:
    (telling,) = await told(store, None)
    assert (telling.status, telling.reason, telling.tries) == (WAITING, "it is not configured here", 1)


async def test_a_plugs_own_mistake_is_a_failure_that_is_logged_and_keeps_nobody_else_waiting(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        odd, other = await told(store, Odd("breaks"), "odd", "other")
    assert (odd.status, odd.reason, other.status) == (WAITING, 'KeyError: "a plug\'s own mistake"', SENT)
    assert "nobody foresaw" in caplog.text


async def test_who_is_being_told_when_the_process_ends_is_told_once(store: Store) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    heard: list[str] = []

    class Slow(Odd):
        async def tell(self, message: Message, *, timeout: float) -> None:
            begun.set()
            await go_on.wait()
            heard.append(message.id)

    watch = judge(Watch("r", 1, RULE), RULE, 1.0, 1000.0)
    await store.replace_watch(watch)
    telling = Teller(store, lambda _: Slow(""), timeout=5.0)
    turn = asyncio.ensure_future(telling.tell([watch]))
    await begun.wait()
    turn.cancel()
    closing = asyncio.ensure_future(telling.close())
    go_on.set()
    await closing
    found = await store.find_watch("r")
    assert found is not None
    (told,) = found.alerts[0].tellings
    assert (told.status, heard) == (SENT, [told.id])


async def test_a_channel_that_hangs_is_cut_off(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teller, "SLACK", 0.05)
    odd, other = await told(store, Odd("hangs"), "odd", "other")
    assert (odd.status, odd.reason, other.status) == (WAITING, "no answer within 0.05 seconds", SENT)
    assert odd.due_at is not None
    assert odd.sender == ""
