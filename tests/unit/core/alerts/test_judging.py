"""What becomes of an alert when its rule's number is looked at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from penstock.core.alerts.judging import KEPT, due, judge, waits, with_tellings
from penstock.schema.alert import (
    ACKNOWLEDGED,
    CONDITIONS,
    FIRING,
    PENDING,
    RESOLVED,
    SENT,
    Rule,
    Watch,
)

RULE = Rule("high_error_rate", "providers.openai.error_rate", ">", 0.05, channels=("log", "email"))
BAD, GOOD = 0.5, 0.0


def after(*values: float | None, rule: Rule = RULE, every: float = 60.0, start: Watch | None = None) -> Watch:
    """The watch after looks at these values, one every so many seconds."""
    watch = start or Watch(rule.name)
    for number, value in enumerate(values):
        watch = judge(watch, rule, value, 1000.0 + number * every)
    return watch


def told(watch: Watch) -> list[tuple[str, str]]:
    """Every telling there is, by channel and event."""
    return [(telling.channel, telling.event) for alert in watch.alerts for telling in alert.tellings]


def rule(**differs: Any) -> Rule:
    return replace(RULE, **differs)


def test_a_rule_that_holds_fires_and_tells_each_of_its_channels_once() -> None:
    watch = after(BAD, BAD, BAD)
    (alert,) = watch.alerts
    assert (alert.status, alert.value, alert.fired_at) == (FIRING, BAD, 1000.0)
    assert told(watch) == [("log", FIRING), ("email", FIRING)]
    assert judge(watch, RULE, 0.7, 2000.0) is watch, "a look that changes nothing writes nothing"


def test_a_rule_that_does_not_hold_says_nothing() -> None:
    watch = Watch(RULE.name)
    assert judge(watch, RULE, GOOD, 1000.0) is watch


def test_an_alert_waits_as_pending_until_it_has_held_for_long_enough() -> None:
    slow = rule(for_minutes=2.0)
    assert after(BAD, rule=slow).alerts[0].status == PENDING
    assert after(BAD, BAD, rule=slow).alerts[0].status == PENDING
    watch = after(BAD, BAD, BAD, rule=slow)
    assert (watch.alerts[0].status, watch.alerts[0].began_at, watch.alerts[0].fired_at) == (FIRING, 1000.0, 1120.0)
    assert told(after(BAD, BAD, rule=slow)) == []


def test_what_was_only_pending_is_forgotten_and_has_to_wait_anew() -> None:
    slow = rule(for_minutes=2.0)
    assert after(BAD, BAD, GOOD, rule=slow).alerts == ()
    assert after(BAD, BAD, GOOD, BAD, BAD, rule=slow).alerts[0].status == PENDING


def test_where_there_is_no_number_nothing_changes() -> None:
    for watch in (Watch(RULE.name), after(BAD), after(BAD, rule=rule(for_minutes=5.0)), after(BAD, GOOD)):
        assert judge(watch, RULE, None, 5000.0) is watch


@pytest.mark.parametrize("acknowledged", [False, True])
def test_an_alert_that_is_over_is_told_as_that_to_those_who_heard_of_it(acknowledged: bool) -> None:
    watch = after(BAD)
    if acknowledged:
        watch = replace(watch, alerts=(replace(watch.alerts[0], status=ACKNOWLEDGED),))
    watch = judge(watch, rule(channels=("sns",)), GOOD, 2000.0)
    (alert,) = watch.alerts
    assert (alert.status, alert.resolved_at, alert.resolved_value) == (RESOLVED, 2000.0, GOOD)
    assert told(watch) == [("log", FIRING), ("email", FIRING), ("log", RESOLVED), ("email", RESOLVED)]
    assert judge(watch, RULE, GOOD, 3000.0) is watch


def test_after_it_was_over_it_fires_anew_as_another_alert() -> None:
    watch = after(BAD, GOOD, BAD, every=600.0)
    assert [alert.status for alert in watch.alerts] == [RESOLVED, FIRING]
    assert len({alert.id for alert in watch.alerts}) == 2
    ids = [telling.id for alert in watch.alerts for telling in alert.tellings]
    assert len(set(ids)) == len(ids) == 6


def test_one_that_flaps_within_its_cooldown_fires_and_is_not_told() -> None:
    watch = after(BAD, GOOD, BAD, GOOD, BAD, every=60.0)
    assert [alert.status for alert in watch.alerts] == [RESOLVED, RESOLVED, FIRING]
    assert told(watch) == [("log", FIRING), ("email", FIRING), ("log", RESOLVED), ("email", RESOLVED)]


def test_one_that_still_fires_when_its_cooldown_is_over_is_told_then() -> None:
    watch = after(BAD, GOOD, BAD, BAD, BAD, BAD, every=60.0)
    assert told(watch)[4:] == [("log", FIRING), ("email", FIRING)]
    assert watch.told_at == 1300.0
    assert watch.alerts[-1].fired_at == 1120.0


def test_one_that_somebody_has_seen_within_the_cooldown_is_not_told() -> None:
    watch = after(BAD, GOOD, BAD)
    seen = replace(watch.alerts[-1], status=ACKNOWLEDGED)
    watch = replace(watch, alerts=(*watch.alerts[:-1], seen))
    assert judge(watch, RULE, BAD, 5000.0) is watch


@pytest.mark.parametrize(("gone", "because"), [(None, "removed"), (rule(enabled=False), "switched off")])
def test_an_alert_is_over_when_its_rule_is_gone(gone: Rule | None, because: str) -> None:
    watch = judge(after(BAD), gone, BAD, 2000.0)
    assert watch.alerts[0].status == RESOLVED
    assert because in watch.alerts[0].resolved_because
    assert len(told(watch)) == 4
    assert judge(after(BAD, rule=rule(for_minutes=9.0)), gone, BAD, 2000.0).alerts == ()
    assert judge(idle := Watch(RULE.name), gone, BAD, 2000.0) is idle


@pytest.mark.parametrize("condition", sorted(CONDITIONS))
@pytest.mark.parametrize("value", [0.9, 1.0, 1.1])
def test_each_condition_means_what_it_says(condition: Any, value: float) -> None:
    holds = eval(f"value {condition} 1.0", {"value": value})
    assert bool(after(value, rule=rule(condition=condition, threshold=1.0)).alerts) is holds


def test_a_channel_is_told_of_one_thing_after_the_other() -> None:
    watch = after(BAD, GOOD)
    first = [telling for _, telling in due(watch, 9e9)]
    assert [(each.channel, each.event) for each in first] == [("log", FIRING), ("email", FIRING)]
    assert due(watch, 0.0) == []
    watch = with_tellings(watch, [replace(each, status=SENT, due_at=None) for each in first])
    second = [telling for _, telling in due(watch, 9e9)]
    assert [(each.channel, each.event) for each in second] == [("log", RESOLVED), ("email", RESOLVED)]
    assert waits(watch)
    assert not waits(with_tellings(watch, [replace(each, status=SENT) for each in second]))


def test_what_is_kept_of_one_rule_does_not_grow() -> None:
    watch = after(*(value for _ in range(3 * KEPT) for value in (BAD, GOOD)), rule=rule(cooldown_minutes=0.0))
    assert len(watch.alerts) == KEPT
    assert watch.alerts[-1].resolved_at == 1000.0 + 60.0 * (6 * KEPT - 1)
