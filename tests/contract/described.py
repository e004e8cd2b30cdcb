"""A gateway as its OpenAPI document describes it: operations, a good body for each, and things that there are."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

from penstock.core.fleet import sign
from penstock.schema.secret import Secret
from tests.e2e.server import Server, wait_for

KEY = "test-key-123"
LONG = bool(os.environ.get("PENSTOCK_TEST_LONG"))
"""Whether there is time for everything; else a part of it is looked at, the same in each run."""
FLEET = Secret("the secret of the fleet")
PATIENCE = 20.0
"""Seconds within which everything is answered, on a machine that is busy with something else."""
SLOW = 8.0
"""Seconds that no answer takes, on a machine that has nothing else to do a hundredth of that."""
AWAY = (b"state cannot be reached", b'"unhealthy"')
"""What an answer says while the store is away."""
SPOKEN = {"messages": [{"role": "user", "content": "hi"}]}
GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "echo", **SPOKEN},
    "/chat/completions": {"model": "echo", **SPOKEN},
    "/v1/classify": {"prompt": "hi"},
    "/infer": {"model": "echo", "input": SPOKEN},
    "/v1/rules": {"name": "sample", "metric_path": "summary.error_rate", "condition": ">", "threshold": 0.5},
    "/v1/webhooks": {"url": "https://example.com/hook"},
    "/v1/providers/{provider}/model_selection": {"editable": True},
    "/v1/workers": {"id": "sample", "generation": "sample", "models": ["pulled"], "pull": True},
    "/v1/batches": {"input_file_id": "file-1", "endpoint": "/v1/embeddings", "completion_window": "24h"},
}
"""Good bodies that cannot be made of their schemas."""
NAMES = {"model": "echo", "provider": "simulated", "url": "https://example.com/"}


T = TypeVar("T")


def some(every: Iterable[T], part: int, start: int) -> Iterator[T]:
    """One of ``part`` of them, the first of which is number ``start``; all of them where there is time."""
    return itertools.islice(every, *((None,) if LONG else (start % part, None, part)))


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    kind: str
    body: bytes
    seconds: float


class Caller:
    """Calls a gateway over one connection; a call that takes too long raises ``TimeoutError``."""

    def __init__(self, url: str, key: str | None = KEY) -> None:
        self._host = urlsplit(url).netloc
        self._headers = {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}
        self._line: http.client.HTTPConnection | None = None

    def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """Call, and again while the state is too busy to answer: a double of DynamoDB is slow at times."""

        def answered() -> Answer | None:
            answer = self._call(method, path, body, **headers)
            return None if answer.status == 503 and any(sign in answer.body for sign in AWAY) else answer

        return wait_for(answered, f"the state to answer {method} {path} {body[:500]!r}", PATIENCE)

    def _call(self, method: str, path: str, body: bytes, **headers: str) -> Answer:
        """Call once, and once more where the gateway had closed the connection before."""
        for _ in range(2):
            line = self._line = self._line or http.client.HTTPConnection(self._host, timeout=PATIENCE)
            signed = {"x-penstock-signature": signature(method, path, body)} if path.startswith("/v1/workers") else {}
            began = time.monotonic()
            try:
                line.request(method, path, body, {**self._headers, **signed, **headers})
                answer = line.getresponse()
                data = answer.read()
                return Answer(answer.status, answer.headers.get_content_type(), data, time.monotonic() - began)
            except (http.client.RemoteDisconnected, ConnectionError):
                self.close()
        raise ConnectionError(f"{method} {path} has no answer")

    def made(self, path: str, **body: Any) -> Any:
        """What a POST makes."""
        return self.given(self.call("POST", path, json.dumps(body).encode()))

    def given(self, answer: Answer) -> Any:
        """What a good answer holds."""
        assert answer.status < 300, answer.body
        return json.loads(answer.body)

    def close(self) -> None:
        """Close the connection."""
        if self._line is not None:
            self._line.close()
        self._line = None


class Description:
    """The OpenAPI document of a running gateway, and ``things`` of it that there are."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.caller = Caller(server.url)
        self.document: dict[str, Any] = json.loads(self.caller.call("GET", "/openapi.json").body)
        self.things = inhabited(self.caller)

    def resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        """A schema, or the one that it refers to."""
        name = schema.get("$ref", "").rpartition("/")[2]
        return self.document["components"]["schemas"][name] if name else schema

    def faults(self, path: str, answer: Answer) -> list[str]:
        """What is wrong with an answer, whatever was asked: it may refuse, in the form of its path."""
        if answer.seconds > SLOW:
            return [f"took {answer.seconds:.1f} s"]
        if answer.status < 400:
            return []
        if answer.status >= 500 and answer.status != 501:
            return [f"failed: {answer}"]
        operation = next(iter(self.document["paths"][path].values()))
        form = self.resolved(operation["responses"]["4XX"]["content"]["application/json"]["schema"])
        try:
            told = json.loads(answer.body)
        except ValueError:
            told = None
        return (
            [] if isinstance(told, dict) and {*form["required"]} <= told.keys() else [f"is no error of ours: {answer}"]
        )

    def place(self, method: str, path: str) -> str:
        """A path with things in it that there are, and stay."""
        return filled(path, {} if method == "DELETE" else self.things)

    @property
    def operations(self) -> list[tuple[str, str, dict[str, Any]]]:
        """The method, the path and the description of each operation; what removes things comes last."""
        found = [
            (method.upper(), path, operation)
            for path, operations in self.document["paths"].items()
            for method, operation in operations.items()
        ]
        return sorted(found, key=lambda each: each[0] == "DELETE")

    @cached_property
    def taking_json(self) -> list[tuple[str, str, dict[str, Any]]]:
        """The method, the path and the schema of the body of each operation that takes JSON."""
        found = []
        for method, path, operation in self.operations:
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                found.append((method, path, self.object_of(content["application/json"].get("schema", {}))))
        return found

    def object_of(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The schema of the object, of a body that may be missing."""
        options = [self.resolved(option) for option in schema.get("anyOf", [schema])]
        return next((option for option in options if "properties" in option), options[0])

    def good(self, path: str, schema: dict[str, Any]) -> dict[str, Any]:
        """A good body of an operation."""
        return GOOD[path] if path in GOOD else self.sample(schema)

    def optional(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Something in each field that a body need not have."""
        fields = schema.get("properties", {})
        return {name: self.sample(fields[name], name) for name in fields if name not in schema.get("required", ())}

    def sample(self, schema: dict[str, Any], name: str = "") -> Any:
        """Something that is as a schema wants it, with no more in it than there must be."""
        schema = self.resolved(schema)
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        if name in NAMES:
            return NAMES[name]
        for key in ("enum", "examples"):
            if schema.get(key):
                return schema[key][0]
        options = schema.get("anyOf") or schema.get("oneOf")
        if options:
            return self.sample(options[0], name)
        if schema.get("type") == "object":
            inner = schema.get("properties", {})
            return {field: self.sample(inner[field], field) for field in schema.get("required", ()) if field in inner}
        if schema.get("type") == "array":
            return [self.sample(schema.get("items", {}))] * schema.get("minItems", 0)
        number = max(schema.get("minimum", 0), schema.get("exclusiveMinimum", -1) + 1)
        return {"integer": number, "number": number, "boolean": False}.get(schema.get("type", ""), "sample")


def inhabited(caller: Caller) -> dict[str, str]:
    """Makes one of each thing that there can be; their ids, by the names that they have in paths."""
    job = caller.call(
        "POST", "/v1/chat/completions", json.dumps(GOOD["/v1/chat/completions"]).encode(), prefer="respond-async"
    )
    form = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    line = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "echo", "input": "a"}}
    parts = (
        form % (b"purpose", b"", b"batch") + form % (b"file", b'; filename="a"', json.dumps(line).encode()) + b"--b--"
    )
    file = caller.given(caller.call("POST", "/v1/files", parts, **{"content-type": "multipart/form-data; boundary=b"}))
    batch = caller.made("/v1/batches", input_file_id=file["id"], endpoint="/v1/embeddings", completion_window="24h")
    key = caller.made("/api/v1/apikeys", description="one to be changed")
    return {
        **{name: caller.given(job)["id"] for name in ("job_id", "task_id")},
        "file_id": file["id"],
        "batch_id": batch["id"],
        "key_id": key["id"],
        "webhook_id": caller.made("/v1/webhooks", url="https://example.com/hook")["id"],
        "worker_id": caller.made("/v1/workers", id="puller", generation="sample", models=["pulled"], pull=True)["id"],
        "provider": "simulated",
        "model": "echo",
    }


def signature(method: str, path: str, body: bytes) -> str:
    """What a worker shows instead of a key."""
    return sign(FLEET, method, unquote(path.partition("?")[0]), body, int(time.time()))


def filled(path: str, things: dict[str, str]) -> str:
    """A path with things in it that there are, or might be."""
    return re.sub(r"{(\w+)(?::path)?}", lambda name: quote(things.get(name[1], "sample"), safe=""), path)
