"""Usage on a running server: what callers took is told within a moment, to each his own."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.e2e.server import SIMULATED, Server, chat, wait_for

TOKENS = ("prompt_tokens", "completion_tokens")


def test_what_two_keys_took_is_told_by_key(tmp_path: Path) -> None:
    with Server(tmp_path, f"{SIMULATED}prices: [{{provider: simulated, input: 0.2, output: 0.8}}]\n") as server:
        made = [httpx.post(f"{server.url}/api/v1/apikeys", json={"owner": name}).json() for name in ("ada", "bob")]
        took = {}
        for key, calls in zip(made, (1, 2), strict=True):
            with server.client(key["api_key"]) as caller:
                answers = [caller.post("/v1/chat/completions", json=chat("one two three")).json() for _ in range(calls)]
            took[key["owner"]] = [sum(answer["usage"][name] for answer in answers) for name in TOKENS]
        told = wait_for(lambda: whole(server, requests=3), "the ledger to hold every request")
        lines = {line["owner"]: line for line in told["data"]}
        assert {owner: [line[name] for name in TOKENS] for owner, line in lines.items()} == took
        for owner, (prompt, completion) in took.items():
            assert lines[owner]["cost"] == round((prompt * 0.2 + completion * 0.8) / 1e6, 9)
            assert lines[owner]["unpriced"] == 0
        assert [lines[name]["requests"] for name in ("ada", "bob")] == [1, 2]
        with server.client(made[0]["api_key"]) as ada:
            elsewhere = {"x-forwarded-for": "203.0.113.9"}  # no longer trusted by its address
            assert ada.get("/v1/usage?group_by=key", headers=elsewhere).json()["data"] == [lines["ada"]]
            assert ada.get(f"/v1/usage?key_id={made[1]['id']}", headers=elsewhere).status_code == 403


def whole(server: Server, *, requests: int) -> dict[str, object] | None:
    """What an administrator is told, once every request is in it."""
    told: dict[str, object] = httpx.get(f"{server.url}/v1/usage?group_by=key").json()
    return told if told["total"]["requests"] == requests else None  # type: ignore[index]
