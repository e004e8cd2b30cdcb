"""The cache of answers: of many who ask for the same, one brings it, and no dead one stands in the others' way."""

from __future__ import annotations

import asyncio
import time
from random import Random
from typing import Any

import pytest

from penstock.core.cache import answers as answering
from penstock.core.cache.answers import Answers, Turn
from penstock.core.cache.cache import Cache
from penstock.errors import NotCached, RateLimited, UpstreamUnavailable
from penstock.schema.freshness import BYPASS, HIT, MISS, Freshness
from penstock.schema.key import Caller
from penstock.schema.request import Request
from tests.unit.core.cache.backings import Behind
from tests.unit.core.cache.test_wishes import a_request

ANSWER = b'{"choices":[{"finish_reason":"stop"}]}'


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "LOOK", 0.001)
    monkeypatch.setattr(answering, "LONGEST_LOOK", 0.005)


def some_answers(behind: Behind | None = None, **differs: Any) -> Answers:
    cache = Cache("test", room=10**7, ttl=60.0, backing=behind)
    return Answers(cache, **({"shared_between": "owner", "everything": False, "wait": 10.0} | differs))


def asking(text: str = "hello", **freshness: Any) -> Request:
    return a_request(
        {"temperature": 0, "messages": [{"role": "user", "content": text}]},
        deadline=asyncio.get_running_loop().time() + 60,
        freshness=Freshness(**freshness),
    )


async def turn_of(answers: Answers, request: Request | None = None) -> Turn:
    turn = await answers.turn(request or asking())
    assert turn is not None
    return turn


async def bring(answers: Answers, request: Request | None = None) -> None:
    turn = await turn_of(answers, request)
    assert turn.kept is None
    turn.answered(ANSWER)
    turn.end(None)
    await answers.settled()


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0.001)


async def test_what_was_answered_is_told_again() -> None:
    answers, first, second = some_answers(), asking(), asking()
    await bring(answers, first)
    kept = (await turn_of(answers, second)).kept
    assert kept is not None
    assert kept.payloads == [ANSWER]
    assert (first.cache, second.cache) == (MISS, HIT)
    assert answers.hit_rate == 0.5


async def test_what_another_process_answered_is_told_here() -> None:
    behind = Behind()
    await bring(some_answers(behind))
    assert (await turn_of(some_answers(behind))).kept is not None


@pytest.mark.parametrize("freshness", [{"store": False}, {"max_age": 0.0}])
async def test_who_wants_none_gets_none(freshness: dict[str, Any]) -> None:
    answers, request = some_answers(), asking(**freshness)
    await bring(answers)
    turn = await answers.turn(request)
    assert turn is None or turn.kept is None
    assert request.cache == BYPASS


async def test_who_says_no_cache_brings_a_new_one_for_all() -> None:
    answers = some_answers()
    await bring(answers)
    turn = await turn_of(answers, asking(max_age=0.0))
    turn.answered(ANSWER.replace(b"stop", b"length"))
    turn.end(None)
    await answers.settled()
    kept = (await turn_of(answers)).kept
    assert kept is not None
    assert b"length" in kept.payloads[0]


async def test_an_answer_is_told_only_while_it_is_as_fresh_as_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = some_answers()
    await bring(answers)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 30)
    young = await turn_of(answers, asking(max_age=29.0))
    assert young.kept is None
    young.end(None)
    old = asking(max_age=31.0)
    assert (await turn_of(answers, old)).kept is not None
    assert 30 <= old.age < 31


async def test_what_is_not_safe_is_kept_where_it_is_asked_for() -> None:
    answers = some_answers()
    chancy = a_request({"temperature": 1}, freshness=Freshness(), deadline=asyncio.get_running_loop().time() + 60)
    assert await answers.turn(chancy) is None
    assert chancy.cache == BYPASS
    chancy.freshness = Freshness(max_age=60.0)
    await bring(answers, chancy)
    assert (await turn_of(answers, chancy)).kept is not None
    assert await some_answers(everything=True).turn(chancy) is not None


async def test_who_wants_nothing_but_a_kept_one_is_told_that_there_is_none() -> None:
    answers = some_answers()
    with pytest.raises(NotCached):
        await answers.turn(asking(only_kept=True))
    await bring(answers)
    assert (await turn_of(answers, asking(only_kept=True))).kept is not None
    assert not answers._flights


async def test_of_a_crowd_one_brings_the_answer() -> None:
    answers = some_answers(Behind())
    first = await turn_of(answers)
    crowd = [asyncio.ensure_future(turn_of(answers)) for _ in range(50)]
    await asyncio.sleep(0)
    assert not any(each.done() for each in crowd)
    first.answered(ANSWER)
    first.end(None)
    assert all(turn.kept for turn in await asyncio.gather(*crowd))
    await answers.settled()
    assert not answers._flights


async def test_of_the_crowds_of_several_processes_one_brings_the_answer() -> None:
    behind = Behind()
    processes = [some_answers(behind) for _ in range(4)]
    crowd = [asyncio.ensure_future(turn_of(answers)) for answers in processes for _ in range(10)]
    await until(lambda: any(each.done() for each in crowd))
    (first,) = (each.result() for each in crowd if each.done())
    first.answered(ANSWER)
    first.end(None)
    turns = await asyncio.gather(*crowd)
    assert sum(turn.kept is None for turn in turns) == 1


@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit(), RateLimited("not you")])
async def test_when_the_one_who_brings_it_leaves_another_one_does(error: BaseException) -> None:
    answers = some_answers(Behind())
    first = await turn_of(answers)
    crowd = [asyncio.ensure_future(turn_of(answers)) for _ in range(5)]
    await asyncio.sleep(0)
    first.end(error)
    await until(lambda: any(each.done() for each in crowd))
    (second,) = (each.result() for each in crowd if each.done())
    second.answered(ANSWER)
    second.end(None)
    assert sum(turn.kept is None for turn in await asyncio.gather(*crowd)) == 1


async def test_when_it_fails_everybody_tries_at_once_for_himself() -> None:
    answers = some_answers()
    first = await turn_of(answers)
    crowd = [asyncio.ensure_future(turn_of(answers)) for _ in range(5)]
    await asyncio.sleep(0)
    first.end(UpstreamUnavailable("no"))
    turns = await asyncio.gather(*crowd)
    assert not any(turn.kept for turn in turns)
    turns[0].answered(ANSWER)
    for turn in turns:
        turn.end(None)
    await answers.settled()
    assert (await turn_of(answers)).kept is not None


async def test_nobody_waits_longer_than_may_be_waited() -> None:
    answers = some_answers(wait=0.02)
    await turn_of(answers)
    assert (await turn_of(answers)).kept is None


async def test_nobody_waits_longer_than_half_of_what_time_he_has() -> None:
    answers = some_answers()
    await turn_of(answers)
    hurried = asking()
    hurried.deadline = asyncio.get_running_loop().time() + 0.04
    assert (await turn_of(answers, hurried)).kept is None
    assert asyncio.get_running_loop().time() < hurried.deadline + 1


async def test_a_process_that_died_while_bringing_it_is_not_waited_for_after_its_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answering, "LEASE", 0.05)
    behind = Behind()
    dead = await turn_of(some_answers(behind))
    assert dead._flight is not None
    assert dead._flight.renewal is not None
    dead._flight.renewal.cancel()
    assert (await turn_of(some_answers(behind))).kept is None


async def test_a_process_that_is_slow_is_believed_to_be_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "RENEWAL", 0.01)
    behind = Behind()
    slow = await turn_of(some_answers(behind))
    waiting = asyncio.ensure_future(turn_of(some_answers(behind)))
    for _ in range(3):
        held = behind.fillers.copy()
        await until(lambda held=held: behind.fillers != held)
        assert not waiting.done()
    slow.answered(ANSWER)
    slow.end(None)
    assert (await waiting).kept is not None


async def test_an_answer_that_is_not_whole_is_not_kept() -> None:
    answers = some_answers()
    turn = await turn_of(answers)
    turn.answered(b'{"choices":[{"finish_reason":"content_filter"}]}')
    turn.end(None)
    assert (await turn_of(answers)).kept is None


async def test_an_answer_whose_request_failed_all_the_same_is_not_kept() -> None:
    answers = some_answers()
    turn = await turn_of(answers)
    turn.answered(ANSWER)
    turn.end(asyncio.CancelledError())
    assert (await turn_of(answers)).kept is None


async def test_while_what_is_behind_is_away_answers_are_made_and_kept_here() -> None:
    answers = some_answers(Behind(away=True))
    await bring(answers)
    assert (await turn_of(answers)).kept is not None


async def test_no_tenant_gets_anothers_answer() -> None:
    answers = some_answers()
    await bring(answers)
    other = asking()
    other.caller = Caller("key_2")
    assert (await turn_of(answers, other)).kept is None


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_becomes_of_those_who_bring_it_everybody_is_served(seed: int) -> None:
    random, behind = Random(seed), Behind()
    processes = [some_answers(behind) for _ in range(3)]
    ends: list[BaseException | None] = [None, asyncio.CancelledError(), GeneratorExit(), UpstreamUnavailable("no")]

    async def ask(answers: Answers, text: str) -> str:
        turn = await turn_of(answers, asking(text))
        if turn.kept is not None:
            return text if text.encode() in turn.kept.payloads[0] else "another's"
        try:
            for _ in range(random.randrange(4)):
                await asyncio.sleep(0)
        except asyncio.CancelledError as gone:
            turn.end(gone)
            raise
        error = random.choice(ends)
        if error is None:
            turn.answered(b'{"choices":[{"finish_reason":"stop","text":"%b"}]}' % text.encode())
        turn.end(error)
        return text

    asked = [(random.choice(processes), random.choice("abc")) for _ in range(200)]
    asks = [asyncio.ensure_future(ask(answers, text)) for answers, text in asked]
    for task in random.sample(asks, 20):
        asyncio.get_running_loop().call_later(random.random() / 100, task.cancel)
    told = await asyncio.wait_for(asyncio.gather(*asks, return_exceptions=True), 20)
    assert all(found == text for found, (_, text) in zip(told, asked, strict=True) if isinstance(found, str))
    assert not [found for found in told if isinstance(found, Exception)]
    for answers in processes:
        await answers.settled()
        assert not answers._flights
