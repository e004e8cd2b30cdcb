"""What a function tells CloudWatch: log lines in the shape of Powertools' Logger, and metrics inside of them (EMF).

Powertools itself would weigh more than a function has room for (decisions/0025); a test holds these lines to its own.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from penstock.core.json import to_json
from penstock.core.traffic import NOBODY, provider_of
from penstock.schema.outcome import FAILED, REFUSED, Failure, Outcome
from penstock.schema.price import dollars
from penstock.schema.worker import WORKERS
from penstock.telemetry import JsonLines, facts, write

NAMESPACE = "Penstock"
SECONDS, COUNT, DOLLARS = "Seconds", "Count", "None"
UNITS = {
    "Requests": COUNT,
    "FailedRequests": COUNT,
    "Duration": SECONDS,
    "TimeToFirstToken": SECONDS,
    "InputTokens": COUNT,
    "OutputTokens": COUNT,
    "Cost": DOLLARS,
    "Fallbacks": COUNT,
    "Attempts": COUNT,
    "FailedAttempts": COUNT,
    "AttemptDuration": SECONDS,
}
"""Every metric and its unit. Those of attempts are told for each provider, the others for all together."""
Numbers = Mapping[str, float | None]


class Shaped(JsonLines):
    """The lines of this process, as Powertools calls what is in them."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """What the line says."""
        line = shaped(super().fields(record), self._service)
        line["location"] = f"{record.name}:{record.lineno}"
        if record.exc_info and record.exc_info[0]:
            line["exception_name"] = record.exc_info[0].__name__
        return line


def shaped(line: dict[str, Any], service: str) -> dict[str, Any]:
    """A line in its shape."""
    return {
        "level": line.pop("level"),
        "location": line.pop("logger"),
        "message": line.pop("message"),
        "timestamp": line.pop("time"),
        "service": service,
        **line,
    }


def shape(service: str) -> None:
    """Give the JSON lines of this process their shape."""
    for handler in logging.root.handlers:
        if isinstance(handler.formatter, JsonLines):
            handler.setFormatter(Shaped(service))


class Lines:
    """Writes one line for each outcome, which is its log line and its metrics; and one for each attempt that failed.

    A provider that is none of ``providers`` is a worker: those come and go, and CloudWatch charges for each new name.
    """

    def __init__(self, service: str, providers: Collection[str]) -> None:
        self._service = service
        self._providers = providers

    def tell(self, batch: Sequence[Outcome]) -> None:
        """Write the lines of outcomes; a prompt or an answer is no part of one."""
        write([to_json(line) for outcome in batch for line in self._lines(outcome)])

    def _lines(self, outcome: Outcome) -> list[dict[str, Any]]:
        line = shaped(facts(outcome), self._service)
        told = self._metrics(outcome, {}, _of_all(outcome))
        if outcome.deployment not in NOBODY:
            line["provider"] = self._provider(outcome.deployment)
        if outcome.deployment not in NOBODY and (outcome.ended != FAILED or not outcome.failures):
            there = self._metrics(outcome, {"provider": line["provider"]}, _of_last(outcome))
            there["_aws"]["CloudWatchMetrics"] += told["_aws"]["CloudWatchMetrics"]
            told |= there
        failed = [self._failed(outcome, failure, line) for failure in outcome.failures]
        return [*failed, line | told]

    def _failed(self, outcome: Outcome, failure: Failure, line: Mapping[str, Any]) -> dict[str, Any]:
        numbers = {"Attempts": 1, "FailedAttempts": int(failure.code != REFUSED), "AttemptDuration": failure.seconds}
        provider = {"provider": self._provider(failure.deployment)}
        return {
            **{name: line[name] for name in ("level", "location", "timestamp", "request_id")},
            "message": f"an attempt at {failure.deployment} failed: {failure.code}",
            **self._metrics(outcome, provider, numbers),
        }

    def _provider(self, deployment: str) -> str:
        name = provider_of(deployment)
        return name if name in self._providers else WORKERS

    def _metrics(self, outcome: Outcome, dimensions: Mapping[str, str], numbers: Numbers) -> dict[str, Any]:
        """Numbers of these dimensions, beside the service."""
        told = {name: number for name, number in numbers.items() if number is not None}
        directive = {
            "Namespace": NAMESPACE,
            "Dimensions": [["service", *dimensions]],
            "Metrics": [{"Name": name, "Unit": UNITS[name]} for name in told],
        }
        ended_at = int((outcome.started_at + outcome.duration) * 1000)
        return {
            "_aws": {"Timestamp": ended_at, "CloudWatchMetrics": [directive]},
            "service": self._service,
            **dimensions,
            **{name: [float(number)] for name, number in told.items()},
        }


def _of_all(outcome: Outcome) -> Numbers:
    places = [failure.deployment for failure in outcome.failures]
    places += [] if outcome.ended == FAILED else [outcome.deployment]
    return {
        "Requests": 1,
        "FailedRequests": int(outcome.ended == FAILED),
        "Duration": outcome.duration,
        "TimeToFirstToken": outcome.ttft,
        "InputTokens": outcome.usage.prompt_tokens,
        "OutputTokens": outcome.usage.completion_tokens,
        "Cost": None if outcome.cost_nanos is None else dollars(outcome.cost_nanos),
        "Fallbacks": sum(place not in places[:number] for number, place in enumerate(places) if number),
    }


def _of_last(outcome: Outcome) -> Numbers:
    lost = sum(failure.seconds for failure in outcome.failures)
    return {
        "Attempts": 1,
        "FailedAttempts": int(outcome.ended == FAILED),
        "AttemptDuration": max(0.0, outcome.duration - lost),
    }
