"""DynamoDB's tables: who makes them, whose credentials are used, and what stands in them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from penstock.aws import Key, signature
from penstock.errors import SettingsError, StateError
from penstock.stores import dynamodb
from penstock.stores._items import dump, load
from penstock.stores.dynamodb import DynamoStore, outcomes
from tests.laws.stores.moto_in_process import InProcess
from tests.laws.stores.places import make
from tests.laws.stores.records import NOW, a_card, a_job, a_key, an_outcome
from tests.unit.stores.wire import Wire, refuses

KINDS = set(dynamodb.TABLES)


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))


def at(url: str, wire: Wire) -> DynamoStore:
    return dynamodb.connect(url, wire)  # type: ignore[arg-type]


async def in_moto(tmp_path: Path) -> DynamoStore:
    place = make("dynamodb-in-process", tmp_path, str)
    store = dynamodb.connect(place.url, place.client)
    await store.open()
    return store


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("dynamodb://", "names no tables"),
        ("dynamodb://with space?region=eu-west-1", "names no tables"),
        ("dynamodb://penstock/keys?region=eu-west-1", "names no tables"),
        ("dynamodb://penstock", "names no region.*or set AWS_REGION"),
        ("dynamodb://penstock?regoin=eu-west-1", "unknown option 'regoin': there are endpoint and region"),
        ("dynamodb://penstock?endpoint=127.0.0.1:4566", "must look like http://host:port"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url: str, told: str) -> None:
    with pytest.raises(SettingsError, match=f"PENSTOCK_STATE_URL.*{told}"):
        dynamodb.connect(url, None)


def test_importing_and_naming_the_store_brings_no_aws_library_along() -> None:
    code = (
        "import sys; from penstock.stores import dynamodb;"
        "heavy = {'aiodynamo', 'yarl', 'boto3', 'botocore', 'httptools', 'sqlite3'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(dynamodb.__file__).parents[3], check=True)


async def test_connecting_sends_nothing() -> None:
    wire = Wire()
    at("dynamodb://penstock?endpoint=http://127.0.0.1:1", wire)
    assert wire.asked == []


async def test_in_aws_opening_looks_but_makes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    wire = Wire([refuses("ResourceNotFoundException")])
    with pytest.raises(StateError, match=r"infra/state\.yaml"):
        await at("dynamodb://penstock?region=eu-west-1", wire).open()
    assert wire.actions == ["GetItem"]
    assert wire.urls == ["https://dynamodb.eu-west-1.amazonaws.com/"]
    assert "Credential=AKIAEXAMPLE/" in wire.headers[0]["authorization"]


async def test_in_aws_missing_credentials_are_told() -> None:
    wire = Wire()
    with pytest.raises(StateError, match=r"credentials are missing.*AWS_ACCESS_KEY_ID.*or give the machine a role"):
        await at("dynamodb://penstock?region=eu-west-1", wire).open()
    assert wire.asked == []


async def test_an_endpoint_of_ones_own_needs_no_credentials() -> None:
    wire = Wire([(200, {"Table": {"TableStatus": "ACTIVE"}})])
    await at("dynamodb://penstock?endpoint=http://127.0.0.1:4566", wire).open()
    assert all("Credential=local/" in headers["authorization"] for headers in wire.headers)


async def test_an_endpoint_of_ones_own_gets_the_credentials_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    wire = Wire([(200, {"Table": {"TableStatus": "ACTIVE"}})])
    await at("dynamodb://penstock?endpoint=http://127.0.0.1:4566", wire).open()
    assert all("Credential=AKIAEXAMPLE/" in headers["authorization"] for headers in wire.headers)


async def test_the_port_and_the_token_of_a_session_are_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ACCESS_KEY_ID", "AKIA"), ("SECRET_ACCESS_KEY", "secret"), ("SESSION_TOKEN", "a-token")):
        monkeypatch.setenv(f"AWS_{name}", value)
    wire = Wire([(200, {"Table": {"TableStatus": "ACTIVE"}})])
    await at("dynamodb://penstock?endpoint=http://127.0.0.1:4566", wire).open()
    told, body = wire.headers[0], json.dumps(wire.asked[0][1], separators=(",", ":")).encode()
    again = signature(
        "POST",
        "http://127.0.0.1:4566/",
        {name: told[name] for name in ("content-type", "x-amz-target")},
        body,
        key=Key("AKIA", "secret", "a-token"),
        region="us-east-1",
        service="dynamodb",
        at=datetime.strptime(told["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
    )
    assert dict(again).items() <= told.items()


async def test_missing_tables_are_made_at_an_endpoint_of_ones_own_once(tmp_path: Path) -> None:
    place = make("dynamodb-in-process", tmp_path, str)
    for made in (KINDS, set()):
        store, wire = await recorded(place.url)
        created = {asked["TableName"] for action, asked in wire.asked if action == "CreateTable"}
        expiring = {asked["TableName"] for action, asked in wire.asked if action == "UpdateTimeToLive"}
        assert created == expiring == {store._db.table(kind) for kind in made}
        assert all(asked["BillingMode"] == "PAY_PER_REQUEST" for action, asked in wire.asked if action == "CreateTable")


async def recorded(url: str) -> tuple[DynamoStore, Wire]:
    """A store opened in moto, and what it asked for."""
    wire, moto = Wire(), InProcess()

    class Recording(InProcess):
        async def request(self, *args, **named):  # type: ignore[no-untyped-def]
            await wire.request(*args, **named)
            return await moto.request(*args, **named)

    store = dynamodb.connect(url, Recording())  # type: ignore[arg-type]
    await store.open()
    return store, wire


async def test_a_client_that_was_lent_is_not_closed() -> None:
    wire = Wire([(200, {"Table": {"TableStatus": "ACTIVE"}})])
    store = at("dynamodb://penstock?endpoint=http://127.0.0.1:4566", wire)
    await store.open()
    await store.close()
    assert not wire.closed


async def test_every_item_carries_its_version(tmp_path: Path) -> None:
    store = await in_moto(tmp_path)
    await store.create_key(a_key())
    await store.record_outcomes([an_outcome()])
    await store.record_outcomes([an_outcome(), an_outcome()])
    await store.create_job(a_job())
    await store.publish_registry([a_card()], expected=0, at=NOW)
    for kind, count in {"keys": 2, "outcomes": 3, "registry": 1, "jobs": 1}.items():
        items = (await store._db.call("Scan", {"TableName": store._db.table(kind)}))["Items"]
        assert [item["v"] for item in items] == [{"N": "1"}] * count


async def test_a_key_is_stored_as_its_hash_alone_and_found_under_no_other_name(tmp_path: Path) -> None:
    store = await in_moto(tmp_path)
    key = a_key()
    await store.create_key(key)
    for name in (f"id#{key.id}", f"hash#{key.sha256}", key.id):
        assert await store.find_key(name) is None


async def test_an_outcome_expires_by_the_clock_even_while_dynamodb_still_keeps_it(tmp_path: Path) -> None:
    store = await in_moto(tmp_path)
    old, new = an_outcome(started_at=NOW - outcomes.RETENTION + 60), an_outcome()
    await store.record_outcomes([old, new])
    store._db.clock = lambda: NOW + 59
    assert await store.list_outcomes() == [new, old]
    store._db.clock = lambda: NOW + 60
    assert await store.list_outcomes() == [new]
    assert await store.list_outcomes(key_id=old.key_id) == [new]


async def test_expired_outcomes_do_not_use_up_the_limit(tmp_path: Path) -> None:
    store = await in_moto(tmp_path)
    newest_but_expired = [an_outcome(started_at=NOW - 10 + number) for number in range(10)]
    alive = an_outcome(started_at=NOW - 100)
    await store.record_outcomes([*newest_but_expired, alive])
    table = store._db.table("outcomes")
    for outcome in newest_but_expired:
        await store._db.call(
            "UpdateItem",
            {
                "TableName": table,
                "Key": {"request_id": {"S": outcome.request_id}},
                "UpdateExpression": "SET expires = :past",
                "ExpressionAttributeValues": {":past": {"N": "1"}},
            },
        )
    assert await store.list_outcomes(limit=1) == [alive]


def test_the_ledger_has_no_hot_partition() -> None:
    items = [outcomes._dump(an_outcome(key_id="key_busy")) for _ in range(4000)]
    for part in ("time_part", "key_part"):
        shares = Counter(item[part]["S"] for item in items)
        assert len(shares) == outcomes.PARTS
        assert max(shares.values()) < 1.25 * len(items) / outcomes.PARTS
    assert len({item["request_id"]["S"] for item in items}) == len(items)


def test_an_item_of_a_newer_version_is_read_for_what_is_known_of_it() -> None:
    key = a_key()
    item = dump({**{name: getattr(key, name) for name in key.__slots__}, "mood": "sunny", "v": 2})
    assert load(type(key), item) == key
