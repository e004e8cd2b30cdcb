"""The OpenAPI document keeps its word: schemathesis asks every operation what it allows, and what it does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks

from tests.contract.conftest import Serve
from tests.contract.described import KEY, LONG, PATIENCE, Description

EXAMPLES = 40 if LONG else 4
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
FORMS = ("multipart/form-data",)
LOST_IN_FORMS = [checks.negative_data_rejection]
"""A form says neither that a field is an empty list nor that one number stands in a list of its own."""
UNGUARDED = {"/health", "/docs", "/openapi.json", "/redoc"}
STRANGERS = """\
auth: {trusted_networks: []}
limits: {enabled: false}
logging: {level: WARNING}
providers:
  - {name: simulated, type: simulated, models: [echo], options: {ttft: 0, tokens_per_second: 0}}
"""

pytestmark = [
    pytest.mark.timeout(1800 if LONG else 300),
    pytest.mark.parametrize("store", ["sqlite", "dynamodb"] if LONG else ["sqlite"], indirect=True),
]
quietly = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def every_operation(document: dict[str, Any]) -> Iterator[Any]:
    """The operations that schemathesis knows, those that remove things last."""
    schema = schemathesis.openapi.from_dict(document)
    schema.config.generation.with_security_parameters = False  # who asks shows a good key, or none
    found = [operation.ok() for operation in schema.get_all_operations()]
    return iter(sorted(found, key=lambda operation: operation.method == "delete"))


def places(operation: Any, things: dict[str, str]) -> list[dict[str, Any]]:
    """What to fix in an operation's cases: nothing, and then the things that there are."""
    names = {parameter.name for parameter in operation.path_parameters}
    fixed = {name: value for name, value in things.items() if name in names}
    return [{}, {"path_parameters": fixed}] if fixed and operation.method != "delete" else [{}]


def possible(ask: Any) -> None:
    """Ask, unless there is nothing that could be asked that way."""
    with suppress(Unsatisfiable):
        ask()


def failures(case: Case, answer: Any) -> dict[str, str]:
    """What an answer has that the document does not allow, by the name of the check."""
    if answer.status_code >= 500 and answer.status_code != 501:
        return {"failed": f"{case.as_curl_command()}\n{answer.text}"}
    try:
        case.validate_response(answer, CHECKS, excluded_checks=LOST_IN_FORMS if case.media_type in FORMS else None)
    except FailureGroup as group:
        return {type(failure).__name__: str(group)[:2000] for failure in group.exceptions}
    return {}


def test_what_is_documented_is_what_happens(description: Description, session: requests.Session) -> None:
    found: dict[str, str] = {}
    held = {"authorization": f"Bearer {KEY}"}
    for operation in every_operation(description.document):
        for mode in GenerationMode:
            for fixed in places(operation, description.things):

                @quietly
                @given(case=operation.as_strategy(mode, **fixed))
                def ask(case: Case) -> None:
                    answer = case.call(description.server.url, session, held, timeout=PATIENCE)
                    for name, words in failures(case, answer).items():
                        found.setdefault(f"{case.operation.label}: {name}", words)

                possible(ask)
    assert not found, "\n\n".join(f"{name}\n{words}" for name, words in found.items())


def test_a_stranger_gets_in_nowhere(serve: Serve, session: requests.Session) -> None:
    server = serve(STRANGERS)
    document = requests.get(f"{server.url}/openapi.json", timeout=PATIENCE).json()
    found: dict[str, str] = {}
    for operation in every_operation(document):
        if operation.path not in UNGUARDED:

            @quietly
            @given(case=operation.as_strategy(GenerationMode.POSITIVE))
            def ask(case: Case) -> None:
                answer = case.call(server.url, session, timeout=PATIENCE)
                if not 400 <= answer.status_code < 500:
                    told = f"{case.as_curl_command()}\n{answer.status_code} {answer.text[:200]}"
                    found.setdefault(case.operation.label, told)

            possible(ask)
    assert not found, "\n\n".join(found.values())
    assert "Traceback" not in server.err
