"""A failure that is kept with a job is told as it was."""

from __future__ import annotations

import pytest

from penstock.core.jobs import failure
from penstock.errors import (
    BudgetExceeded,
    JobError,
    ModelNotFound,
    NoDeploymentAvailable,
    PenstockError,
    RequestTooLarge,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from penstock.schema.wire_error import error_document

ATTEMPTS = ({"deployment": "a/m", "code": "upstream_busy", "seconds": 0.1},)


@pytest.mark.parametrize(
    "error",
    [
        ModelNotFound("There is no model 'x'.", param="model"),
        RequestTooLarge("Too large."),
        BudgetExceeded("The money is spent."),
        UpstreamTimeout("did not answer in time", where="10.0.0.5:443", provider="engine"),
        UpstreamUnavailable("It is down.", provider="engine"),
        UpstreamRefused("Not so.", status=422, upstream_code="odd", param="n"),
        NoDeploymentAvailable("Nobody could.", attempts=ATTEMPTS),
        JobError("It was given up."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failure_is_told_again_as_it_was(error: PenstockError) -> None:
    again = failure.read(failure.write(error))
    assert type(again) is type(error)
    assert again.status == error.status
    assert document(again) == document(error)
    assert str(again) == str(error)


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"kind": "JobError"}'])
def test_what_nobody_wrote_is_a_failure_all_the_same(text: str) -> None:
    assert failure.read(text).status == 500


def test_a_kind_that_is_not_known_any_more_keeps_its_words() -> None:
    again = failure.read('{"kind": "Gone", "message": "It was so."}')
    assert (type(again), again.message) == (JobError, "It was so.")


def document(error: PenstockError) -> object:
    """What a caller is told, but for when."""
    return {name: value for name, value in error_document(error).items() if name != "timestamp"}
