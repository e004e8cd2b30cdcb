"""Keys over HTTP: made, listed, changed, rotated and revoked by those who may, and by nobody else."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.app import App
from penstock.bootstrap import build
from penstock.core.keys import generate, new_key
from penstock.schema.config import Auth, Document, Logging, Server
from penstock.schema.secret import Secret
from penstock.settings import Settings

INSIDE, OUTSIDE, PROXY = "10.1.2.3", "203.0.113.9", "192.0.2.7"
CHAT = {"model": "simulated/echo", "messages": [{"role": "user", "content": "Hello"}]}

Client = Callable[..., httpx.AsyncClient]


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    """A gateway behind one declared proxy."""
    server = Server(port=30000, trusted_proxies=[PROXY])  # a port of its own choice among those that are looked at
    document = Document(server=server, auth=Auth(), logging=Logging(level="ERROR"))
    settings = Settings(state_url=f"sqlite:///{tmp_path / 'state.db'}", document=document)
    app = App(lambda: build(settings))
    await app.open()
    yield app
    await app.close()


@pytest.fixture
async def client(app: App) -> AsyncIterator[Client]:
    """A client at an address, with a key and headers if given."""
    made: list[httpx.AsyncClient] = []

    def at(address: str = INSIDE, key: str | None = None, **headers: str) -> httpx.AsyncClient:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given |= {"authorization": f"Bearer {key}"} if key else {}
        transport = httpx.ASGITransport(app=app, client=(address, 4711))  # type: ignore[arg-type]
        made.append(httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=given))
        return made[-1]

    yield at
    for one in made:
        await one.aclose()


async def made(client: Client, **fields: Any) -> dict[str, Any]:
    answer = await client().post("/api/v1/apikeys", json=fields)
    assert answer.status_code == 201, answer.text
    key: dict[str, Any] = answer.json()
    return key


async def admin_key(app: App) -> str:
    house = await app.open()
    secret = generate()
    await house.store.create_key(new_key(secret, scopes=("admin",)))
    return secret.reveal()


# what the documents promise


async def test_a_new_key_is_shown_once_and_valid_at_once(client: Client) -> None:
    key = await made(client, description="my service", priority=5)
    assert (key["priority"], key["description"]) == (5, "my service")
    answer = await client(OUTSIDE, key["api_key"]).post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 200
    listed = (await client().get("/api/v1/apikeys")).text + (await client().get(f"/api/v1/apikeys/{key['id']}")).text
    assert key["api_key"] not in listed
    assert Secret(key["api_key"]).sha256() not in listed
    assert key["hint"].endswith(key["api_key"][-4:])


async def test_every_field_is_kept_and_told(client: Client) -> None:
    fields = {
        "description": "nightly",
        "owner": "ada",
        "priority": -2,
        "scopes": ["inference", "metrics"],
        "models": ["simulated/*"],
        "providers": ["sim*", "workers"],
        "tags": ["ci"],
        "expires_at": time.time() + 3600.5,
    }
    key = await made(client, **fields)
    read = (await client().get(f"/api/v1/apikeys/{key['id']}")).json()
    assert {name: read[name] for name in fields} == fields
    assert read["status"] == "active"


async def test_models_that_a_key_may_not_use_are_refused_and_not_listed(client: Client) -> None:
    key = await made(client, models=["tiny*"])
    holder = client(OUTSIDE, key["api_key"])
    answer = await holder.post("/v1/chat/completions", json=CHAT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_permissions")
    assert (await holder.get("/v1/models")).json()["data"] == []


async def test_a_pinned_key_is_served_by_its_providers_alone(client: Client) -> None:
    pinned = client(OUTSIDE, (await made(client, providers=["simulated"]))["api_key"])
    assert (await pinned.post("/v1/chat/completions", json=CHAT)).headers["x-penstock-deployment"] == "simulated/echo"
    elsewhere = client(OUTSIDE, (await made(client, providers=["openai", "workers"]))["api_key"])
    answer = await elsewhere.post("/v1/chat/completions", json=CHAT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert (await elsewhere.get("/v1/models")).json()["data"] == []
    assert (await elsewhere.get("/v1/models/simulated/echo")).status_code == 404


async def test_an_expired_key_is_refused(client: Client) -> None:
    key = await made(client, expires_at=time.time() - 1)
    assert key["status"] == "expired"
    answer = await client(OUTSIDE, key["api_key"]).get("/v1/models")
    assert answer.status_code == 401
    assert "expired" in answer.json()["error"]["message"]


async def test_a_change_leaves_what_it_does_not_name(client: Client) -> None:
    key = await made(client, owner="ada", priority=3, expires_at=time.time() + 60)
    changed = (await client().patch(f"/api/v1/apikeys/{key['id']}", json={"owner": "grace", "expires_at": None})).json()
    assert (changed["owner"], changed["priority"], changed["expires_at"]) == ("grace", 3, None)


async def test_a_rotated_key_opens_beside_the_new_one_within_its_grace(client: Client) -> None:
    key = await made(client)
    new = (await client().post(f"/api/v1/apikeys/{key['id']}/rotate", json={"grace_seconds": 60})).json()
    assert new["id"] == key["id"]
    assert new["rotation_ends_at"] == pytest.approx(time.time() + 60, abs=5)
    for secret in (key["api_key"], new["api_key"]):
        assert (await client(OUTSIDE, secret).get("/v1/models")).status_code == 200


async def test_without_a_grace_the_key_before_opens_nothing_more(client: Client) -> None:
    key = await made(client)
    new = (await client().post(f"/api/v1/apikeys/{key['id']}/rotate", json={"grace_seconds": 0})).json()
    assert (await client(OUTSIDE, key["api_key"]).get("/v1/models")).status_code == 401
    assert (await client(OUTSIDE, new["api_key"]).get("/v1/models")).status_code == 200


async def test_a_revoked_key_opens_nothing_stays_listed_and_cannot_be_changed(client: Client) -> None:
    key = await made(client)
    path = f"/api/v1/apikeys/{key['id']}"
    assert (await client().delete(path)).json()["status"] == "revoked"
    assert (await client(OUTSIDE, key["api_key"]).get("/v1/models")).status_code == 401
    assert [one["status"] for one in (await client().get("/api/v1/apikeys")).json()["data"]] == ["revoked"]
    for answer in (await client().patch(path, json={"owner": "x"}), await client().post(f"{path}/rotate")):
        assert answer.status_code == 400
        assert "revoked" in answer.json()["error"]["message"]


# who may


async def test_strangers_without_a_key_may_administer_nothing(client: Client) -> None:
    key = await made(client)
    stranger, one = client(OUTSIDE), f"/api/v1/apikeys/{key['id']}"
    answers = [
        await stranger.post("/api/v1/apikeys", json={}),
        await stranger.get("/api/v1/apikeys"),
        await stranger.get(one),
        await stranger.patch(one, json={}),
        await stranger.post(f"{one}/rotate"),
        await stranger.delete(one),
        await stranger.get("/api/v1/audit"),
    ]
    assert {answer.status_code for answer in answers} == {403}
    assert len((await client().get("/api/v1/apikeys")).json()["data"]) == 1


async def test_a_key_without_the_scope_admin_administers_nothing_from_outside(client: Client) -> None:
    key = await made(client, scopes=["inference", "metrics"])
    answer = await client(OUTSIDE, key["api_key"]).post("/api/v1/apikeys", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_permissions")


async def test_a_key_with_the_scope_admin_administers_from_anywhere(app: App, client: Client) -> None:
    assert (await client(OUTSIDE, await admin_key(app)).post("/api/v1/apikeys", json={})).status_code == 201


@pytest.mark.parametrize(
    ("peer", "headers", "status"),
    [
        (OUTSIDE, {"x_forwarded_for": "127.0.0.1"}, 403),
        (OUTSIDE, {"x_forwarded_for": INSIDE, "forwarded": "for=127.0.0.1", "x_real_ip": "127.0.0.1"}, 403),
        (INSIDE, {"x_forwarded_for": OUTSIDE}, 403),
        (INSIDE, {"x_real_ip": INSIDE}, 403),
        (PROXY, {}, 403),
        (PROXY, {"x_forwarded_for": INSIDE}, 201),
        (PROXY, {"x_forwarded_for": OUTSIDE}, 403),
        (PROXY, {"x_forwarded_for": f"{INSIDE}, {OUTSIDE}"}, 403),
        (PROXY, {"x_forwarded_for": f"{OUTSIDE}, {INSIDE}"}, 201),
        (PROXY, {"x_forwarded_for": f"{OUTSIDE}, {INSIDE}, {PROXY}"}, 201),
        (PROXY, {"x_forwarded_for": f"{INSIDE}:4711"}, 201),
        (PROXY, {"x_forwarded_for": "[::1]:4711"}, 201),
        (PROXY, {"x_forwarded_for": f"{OUTSIDE}:4711, {PROXY}:80"}, 403),
        (PROXY, {"x_forwarded_for": "unknown"}, 403),
        (PROXY, {"x_forwarded_for": f"{INSIDE}, "}, 403),
        (INSIDE, {"origin": "http://evil.example"}, 403),
        (INSIDE, {"sec_fetch_site": "cross-site"}, 403),
        (INSIDE, {"x_amzn_request_context": '{"identity": {"sourceIp": "10.0.0.1"}}'}, 201),
        (OUTSIDE, {"x_amzn_request_context": '{"identity": {"sourceIp": "10.0.0.1"}}'}, 403),
        ("::1", {}, 201),
        ("::ffff:127.0.0.1", {}, 201),
        ("169.254.169.254", {}, 403),
        ("", {}, 403),
        ("testclient", {}, 403),
    ],
)
async def test_an_address_is_believed_only_from_the_peer_or_a_declared_proxy(
    client: Client, peer: str, headers: dict[str, str], status: int
) -> None:
    answer = await client(peer, **headers).post("/api/v1/apikeys", json={})
    assert answer.status_code == status, answer.text


# bad input, and the trail


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"priority": "high"}, "priority"),
        ({"priority": 1001}, "priority"),
        ({"scopes": ["root"]}, "scopes.0"),
        ({"scopes": []}, "scopes"),
        ({"models": [""]}, "models.0"),
        ({"expires_at": -1}, "expires_at"),
        ({"limits": {"requests_per_minute": 0}}, "limits.requests_per_minute"),
        ({"limits": {"rpm": 60}}, "limits.rpm"),
        ({"limits": {"burst": 5}}, "limits"),
        ({"budget": {"daily": -1}}, "budget.daily"),
        ({"budget": {"yearly": 1}}, "budget.yearly"),
        ({"budget": 5}, "budget"),
        ({"description": "x" * 501}, "description"),
    ],
)
async def test_a_wrong_field_is_named(client: Client, body: dict[str, Any], param: str) -> None:
    answer = await client().post("/api/v1/apikeys", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_a_key_that_is_not_there_is_a_404(client: Client) -> None:
    for answer in (
        await client().get("/api/v1/apikeys/key_nobody"),
        await client().patch("/api/v1/apikeys/key_nobody", json={}),
        await client().delete("/api/v1/apikeys/key_nobody"),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_every_act_is_in_the_trail_with_its_actor_and_without_a_secret(app: App, client: Client) -> None:
    admin = await admin_key(app)
    key = (await client(OUTSIDE, admin).post("/api/v1/apikeys", json={"owner": "ada"})).json()
    path = f"/api/v1/apikeys/{key['id']}"
    await client().patch(path, json={"priority": 1})
    new = (await client().post(f"{path}/rotate")).json()
    await client().delete(path)
    trail = await client().get("/api/v1/audit")
    told = [(act["actor"], act["action"], act["target"], act["detail"]) for act in trail.json()["data"]]
    made_by = next(
        one["id"] for one in (await client().get("/api/v1/apikeys")).json()["data"] if "admin" in one["scopes"]
    )
    assert told == [
        (f"address {INSIDE}", "revoke key", key["id"], ""),
        (f"address {INSIDE}", "rotate key", key["id"], "grace 86400 s"),
        (f"address {INSIDE}", "change key", key["id"], "priority"),
        (made_by, "create key", key["id"], "owner"),
    ]
    assert not any(secret in trail.text for secret in (admin, key["api_key"], new["api_key"]))
