"""Records with anything in them that may be there."""

from __future__ import annotations

import uuid

from hypothesis import strategies as st

from penstock.schema.job import Job
from penstock.schema.key import VirtualKey
from penstock.schema.model import ModelCard, Selection
from penstock.schema.outcome import Outcome, Usage
from penstock.schema.secret import Secret
from penstock.schema.webhook import Delivery, Sending, Webhook
from tests.laws.stores.records import NOW

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
_name = _text.filter(bool)
_count = st.integers(0, 2**53)
_seconds = st.floats(0.001, 1e6)
_moment = st.floats(NOW - 86400, NOW + 86400)


def _fresh(prefix: str) -> st.SearchStrategy[str]:
    return st.builds(lambda: f"{prefix}_{uuid.uuid4().hex}")


keys = st.builds(
    VirtualKey,
    id=_fresh("key"),
    sha256=_fresh("hash"),
    hint=_text,
    description=_text,
    owner=_text,
    priority=st.integers(-(2**31), 2**31),
    scopes=st.lists(_text, max_size=3).map(tuple),
    models=st.lists(_text, max_size=3).map(tuple),
    created_at=_moment,
    expires_at=st.none() | _moment,
    revoked_at=st.none() | _moment,
    providers=st.lists(_text, max_size=3).map(tuple),
)
outcomes = st.builds(
    Outcome,
    request_id=_fresh("req"),
    started_at=_moment,
    duration=_seconds,
    key_id=_text,
    owner=_text,
    endpoint=_text,
    model=_text,
    deployment=_text,
    ended=_text,
    status=st.integers(100, 599),
    code=_text,
    stream=st.booleans(),
    attempts=st.integers(0, 20),
    ttft=st.none() | _seconds,
    usage=st.builds(Usage, _count, _count, _count),
    usage_reported=st.booleans(),
    cost_nanos=st.none() | _count,
)
jobs = st.builds(
    Job,
    id=_fresh("job"),
    key_id=_text,
    endpoint=_text,
    body=st.binary(max_size=200),
    created_at=_moment,
    status=_name,
    runner=_text,
    lease_until=_seconds,
    attempts=st.integers(0, 100),
    failures=st.integers(0, 100),
    result=st.binary(max_size=200),
    error=_text,
    finished_at=st.none() | _moment,
    priority=st.integers(-(2**31), 2**31),
    due_at=st.none() | _moment,
    expires_at=st.none() | st.floats(NOW + 1, NOW + 86400),
    model=_name,
    parked=st.booleans(),
    notify=st.booleans(),
)
cards = st.builds(
    ModelCard,
    id=_name,
    owned_by=_text,
    provider_type=_text,
    created=_count,
    upstream=_text,
    context_window=st.none() | _count,
    max_tokens=st.none() | _count,
    capabilities=st.lists(_text, max_size=3).map(tuple),
)
selections = st.builds(
    Selection,
    provider=_name,
    models=st.lists(_text, max_size=3).map(tuple),
    editable=st.booleans(),
    priority=st.none() | st.integers(0, 10**6),
    max_tokens=st.none() | st.integers(1, 10**7),
    temperature=st.none() | st.floats(0, 2),
    at=_moment,
)
webhooks = st.builds(
    Webhook,
    id=_fresh("wh"),
    url=_text,
    secret=st.builds(Secret, _name),
    events=st.lists(_name, max_size=3).map(tuple),
    description=_text,
    created_at=_moment,
    previous=st.builds(Secret, _text),
    previous_until=_moment,
    failing_since=st.none() | _moment,
    disabled_at=st.none() | _moment,
    disabled_because=_text,
)
deliveries = st.builds(
    Delivery,
    id=_fresh("dlv"),
    webhook_id=_name,
    key_id=_text,
    message_id=_text,
    event=_text,
    body=st.binary(max_size=200),
    created_at=_moment,
    status=_name,
    tries=st.integers(0, 100),
    due_at=st.none() | _moment,
    sender=_text,
    log=st.lists(st.builds(Sending, _moment, st.integers(0, 599), _seconds, _text), max_size=3).map(tuple),
    expires_at=st.floats(NOW + 1, NOW + 86400),
)
