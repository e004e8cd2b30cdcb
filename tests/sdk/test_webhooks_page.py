"""The receiver of docs/webhooks.md, run as it stands there."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.server import KEY, ROOT, Server, environment, wait_for
from tests.ports import free_port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.timeout(120)
def test_the_receiver_of_the_page_is_told_once_and_believes_nobody_else(gateway: Server, tmp_path: Path) -> None:
    [example] = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8"), re.DOTALL
    )
    url = f"http://127.0.0.1:{(port := free_port())}/hook"
    with gateway.client(KEY) as client:
        webhook = client.post("/v1/webhooks", json={"url": url}).json()
        receiver = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", example],
            cwd=tmp_path,
            env=environment(WEBHOOK_SECRET=webhook["secret"], PORT=str(port)),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            wait_for(lambda: listens(port), "the receiver to listen")
            asked = {"model": "simulated/echo", "messages": [{"role": "user", "content": "Hello!"}]}
            job = client.post("/v1/chat/completions", json=asked, headers={"prefer": "respond-async"}).json()["id"]
            assert receiver.stdout is not None
            assert receiver.stdout.readline() == f"job.completed {job}\n"
            [delivery] = wait_for(
                lambda: [
                    one
                    for one in client.get(f"/v1/webhooks/{webhook['id']}/deliveries").json()["data"]
                    if one["status"] == "delivered"
                ],
                "the delivery to be noted",
            )
            again = client.post(f"/v1/webhooks/deliveries/{delivery['id']}/redeliver").json()
            assert [said["status"] for said in again["tries"]] == [204, 204]
            assert client.post(url, content=b"{}", headers={"webhook-id": "msg_1"}).status_code == 401
        finally:
            client.delete(f"/v1/webhooks/{webhook['id']}")
            receiver.kill()
            rest, _ = receiver.communicate()
    assert rest == "", "what came twice was noticed"
