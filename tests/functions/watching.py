"""Alerts on DynamoDB: what administrators do at the door for HTTP, and what the door for the clock finds."""

from __future__ import annotations

import asyncio
import json
import time

from penstock import plugs
from penstock.core.alerts.judging import judge
from penstock.schema.alert import Rule, Watch
from tests.functions import doors


def administer(door: doors.Door, state_url: str) -> None:
    """Let an administrator make a rule, change it, acknowledge an alert of it, and remove it."""
    rule = {"name": "failing", "metric_path": "summary.error_rate", "condition": ">", "threshold": 0.5}
    alert = asyncio.run(_fire(state_url))
    for method, path, body, status in (
        ("POST", "/v1/rules", rule, 201),
        ("GET", "/v1/rules", None, 200),
        ("GET", "/v1/rules/failing", None, 200),
        ("PUT", "/v1/rules/failing", {"threshold": 0.1}, 200),
        ("GET", "/v1/alerts", None, 200),
        ("POST", f"/v1/alerts/{alert}/acknowledge", None, 200),
        ("DELETE", "/v1/rules/failing", None, 200),
    ):
        event = doors.event("http_api_make_key") | {"httpMethod": method, "path": path}
        event["body"] = json.dumps(body) if body else None
        answer = door.call(event)
        assert answer["statusCode"] == status, (method, path, answer["body"])


async def _fire(state_url: str) -> str:
    """Put a rule into the table whose alert fires; answers the alert's id."""
    store = plugs.load("stores", "dynamodb").connect(state_url, None)
    await store.open()
    rule = Rule("fires", "summary.error_rate", ">", 0.5)
    fired = judge(Watch("fires", 1, rule), rule, 1.0, time.time())
    await store.replace_watch(fired)
    await store.close()
    return fired.alerts[0].id


async def leave_rules(state_url: str) -> None:
    """Put a rule into the table that holds, and what is left of one that was removed long ago."""
    store = plugs.load("stores", "dynamodb").connect(state_url, None)
    await store.open()
    rule = Rule("always", "summary.total_requests", ">=", 0)
    await store.replace_watch(Watch("always", 1, rule))
    await store.replace_watch(Watch("gone", 1))
    await store.close()
