"""Log lines: JSON (or text for a terminal), one for each event and each outcome, on standard error and to sinks."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from penstock.core.json import to_json
from penstock.schema.outcome import Outcome
from penstock.schema.price import dollars

if TYPE_CHECKING:
    from penstock.sinks import Sink

_QUERY_KEY = re.compile(r"(?i)(api_key=)[^&\s\"']+")
_BEARER = re.compile(r"(?i)(bearer\s+|x-api-key:\s*)\S+")
_KEY = re.compile(r"\b(psk|sk)-[A-Za-z0-9_-]{16,}")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

_FORMS = {"text": "%(asctime)s %(levelname)s %(name)s: %(message)s", "plain": "penstock: %(message)s"}

outcomes = logging.getLogger("penstock.outcome")
_sinks: list[Sink] = []


def redact(text: str) -> str:
    """The text without keys in query strings and headers, and without what looks like one anywhere."""
    return _KEY.sub(r"\1-***", _BEARER.sub(r"\1***", _QUERY_KEY.sub(r"\1***", text)))


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the fields given by ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        return to_json(self.fields(record), fallback=str).decode()

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """What the line says."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD:
                line[name] = redact(value) if isinstance(value, str) else value
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return line


class Text(logging.Formatter):
    """Plain lines for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        return redact(super().format(record))


def configure(level: str, form: str, sinks: Sequence[Sink] = ()) -> None:
    """Send the log lines of this process to standard error, as ``json``, ``text``, or ``plain`` for a command, and to
    these sinks; those before are closed.
    """
    _sinks[:] = sinks
    handlers = [logging.StreamHandler(sys.stderr), *sinks]
    for handler in handlers:
        handler.setFormatter(JsonLines() if form == "json" else Text(_FORMS[form]))
    logging.basicConfig(level=level, handlers=handlers, force=True)


def tell(batch: Sequence[Outcome]) -> None:
    """Log each outcome; a prompt or an answer is no part of one.

    The lines of a batch are formatted and written together: this is the only log that every request pays for.
    """
    if not outcomes.isEnabledFor(logging.INFO):
        return
    form = _text if isinstance(outcomes.root.handlers[0].formatter, Text) else _json
    write([form(outcome) for outcome in batch])


def write(lines: list[bytes]) -> None:
    """Send lines that hold no key to where log lines go."""
    sys.stderr.buffer.write(b"\n".join([*lines, b""]))
    sys.stderr.buffer.flush()
    for sink in _sinks:
        sink.take(lines)


def facts(outcome: Outcome) -> dict[str, Any]:
    """What a line says of an outcome."""
    ended_at = outcome.started_at + outcome.duration
    return {
        "time": datetime.fromtimestamp(ended_at, UTC).isoformat(timespec="milliseconds"),
        "level": "INFO",
        "logger": outcomes.name,
        "message": f"{outcome.endpoint} {outcome.model} {outcome.code or outcome.ended}",
        "request_id": outcome.request_id,
        "key_id": outcome.key_id,
        "deployment": outcome.deployment,
        "status": outcome.status,
        "attempts": outcome.attempts,
        "stream": outcome.stream,
        "seconds": round(outcome.duration, 4),
        "ttft": round(outcome.ttft, 4) if outcome.ttft is not None else None,
        "prompt_tokens": outcome.usage.prompt_tokens,
        "completion_tokens": outcome.usage.completion_tokens,
        "cached_tokens": outcome.usage.cached_tokens,
        **({"marks": outcome.marks} if outcome.marks else {}),
        "cached": outcome.cached,
        **({"trace_id": outcome.trace.trace_id} if outcome.trace else {}),
        "cost": dollars(outcome.cost_nanos) if outcome.cost_nanos is not None else None,
    }


def _json(outcome: Outcome) -> bytes:
    return to_json(facts(outcome))


def _text(outcome: Outcome) -> bytes:
    ended_at = datetime.fromtimestamp(outcome.started_at + outcome.duration, UTC)
    tokens = f"{outcome.usage.prompt_tokens}+{outcome.usage.completion_tokens} tokens"
    cost = f" ${dollars(outcome.cost_nanos):.6f}" if outcome.cost_nanos is not None else ""
    return (
        f"{ended_at:%Y-%m-%d %H:%M:%S} {outcome.status} {outcome.endpoint} {outcome.model}"
        f" {outcome.code or outcome.ended}"
        f" {outcome.duration:.3f} s {tokens}{cost} {outcome.request_id}"
    ).encode()
