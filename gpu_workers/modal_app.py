"""Serves one model of models.toml on Modal: `PENSTOCK_MODEL=qwen3-8b modal deploy gpu_workers/modal_app.py`.

The app has a server, which speaks HTTP as the engine does, and jobs, which are spawned and polled. Each scales by
itself, to nothing while nobody calls. docs/modal.md says what it costs and how the gateway is told of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import modal

from catalogue import ADMIN_KEY, CALLER_KEY, MODELS, LaunchError, find

HERE = MODELS.parent
INSIDE = "/opt/penstock"
IMAGE = "lmsysorg/sglang:v0.5.23-runtime"
PORT = int(os.environ.get("PENSTOCK_PORT", "30000"))
EVERYWHERE = "0.0.0.0"  # noqa: S104 - Modal's proxy comes from outside the container
MODEL = find(os.environ.get("PENSTOCK_MODEL", "qwen3-8b"))
JOB_SECONDS = 3600
GRACE_SECONDS = 120
EXIT_SECONDS = 25

if not MODEL.gpu:
    raise LaunchError(f"{MODEL.name} names no `gpu` in models.toml, and Modal needs one.")

# A snapshot holds the memory of one GPU; an engine on several starts from its weights each time.
SNAPSHOT = MODEL.gpu_count == 1 and os.environ.get("PENSTOCK_SNAPSHOT", "1") != "0"
SNAPSHOT_FLAGS = ["--enable-memory-saver", "--enable-weights-cpu-backup"]

app = modal.App(f"penstock-{MODEL.name}")
image = (
    modal.Image.from_registry(IMAGE)
    .entrypoint([])
    .env({"HF_HOME": "/weights", "HF_XET_HIGH_PERFORMANCE": "1", "SGLANG_CACHE_DIR": "/kernels", "PYTHONPATH": INSIDE})
)
for name in ("models.toml", "catalogue.py", "engine.py", "launch.py", "companion.py", "agent.py"):
    image = image.add_local_file(HERE / name, f"{INSIDE}/{name}")
weights = modal.Volume.from_name("penstock-weights", create_if_missing=True)
kernels = modal.Volume.from_name("penstock-kernels", create_if_missing=True)
chosen: dict[str, str | None] = {"PENSTOCK_MODEL": MODEL.name, "PENSTOCK_SNAPSHOT": "1" if SNAPSHOT else "0"}
keys: dict[str, str | None] = {
    name: os.environ[name] for name in (CALLER_KEY, ADMIN_KEY, "HF_TOKEN") if name in os.environ
}

container: dict[str, Any] = {
    "image": image,
    "gpu": MODEL.modal_gpu,
    "volumes": {"/weights": weights, "/kernels": kernels},
    "env": chosen,
    "secrets": [modal.Secret.from_dict(keys)],
    "startup_timeout": MODEL.start_seconds,
    "scaledown_window": MODEL.idle_seconds,
    "min_containers": MODEL.min_containers,
    "max_containers": MODEL.max_containers,
    "enable_memory_snapshot": SNAPSHOT,
    "experimental_options": {"enable_gpu_snapshot": True} if SNAPSHOT else {},
}


class Worker:
    """A container's life: the engine is started and has answered once, sleeps while its memory is kept, and drains."""

    @modal.enter(snap=SNAPSHOT)
    def start(self) -> None:
        """Return once the model has answered; with snapshots, its memory is kept after this, and restored later."""
        words = [sys.executable, str(HERE / "launch.py"), MODEL.name, "--port", str(PORT), "--host", EVERYWHERE]
        within = ["--ready-within", str(MODEL.start_seconds), "--drain-within", str(EXIT_SECONDS - 5)]
        flags = ["--", *SNAPSHOT_FLAGS] if SNAPSHOT else []
        self.launch = subprocess.Popen([*words, *within, *flags], stdout=subprocess.PIPE)
        assert self.launch.stdout is not None
        if not self.launch.stdout.readline():
            raise RuntimeError(
                f"the engine did not start; launch.py ended with {self.launch.wait()}, see the log above"
            )
        weights.commit()
        kernels.commit()
        if SNAPSHOT:
            ask("/release_memory_occupation", {}, ADMIN_KEY)

    @modal.enter(snap=False)
    def wake(self) -> None:
        """After a snapshot was kept or restored: take the GPU's memory again."""
        if SNAPSHOT:
            ask("/resume_memory_occupation", {}, ADMIN_KEY)

    @modal.exit()
    def stop(self) -> None:
        """Let the engine finish, in the time that Modal gives."""
        self.launch.terminate()
        self.launch.wait(EXIT_SECONDS)


@app.server(
    **container,
    port=PORT,
    unauthenticated=False,
    target_concurrency=MODEL.max_running,
    max_concurrency=MODEL.max_running + MODEL.max_queued,
    exit_grace_period=GRACE_SECONDS,
)
class Server(Worker):
    """The engine's own port behind Modal's proxy, which lets nobody in without a proxy token."""


@app.cls(**container, timeout=JOB_SECONDS)
@modal.concurrent(max_inputs=MODEL.max_running + MODEL.max_queued, target_inputs=MODEL.max_running)
class Jobs(Worker):
    """Calls that are spawned and polled; Modal keeps those that wait."""

    @modal.method()
    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """The engine's answer to an OpenAI chat body (or one for embeddings); for a refusal, ``{"error": …}``."""
        return completion(body)


@app.function(
    image=image, volumes={"/weights": weights}, env=chosen, secrets=[modal.Secret.from_dict(keys)], timeout=7200
)
def fetch() -> None:
    """Put the weights into their volume without paying for a GPU: `modal run gpu_workers/modal_app.py::fetch`."""
    revision = ["--revision", MODEL.revision] if MODEL.revision else []
    subprocess.run(["hf", "download", MODEL.model, *revision], check=True)
    weights.commit()


def completion(body: dict[str, Any]) -> dict[str, Any]:
    """What the engine in this container answers to ``body``, whole."""
    path = "/v1/embeddings" if MODEL.kind == "embedding" else "/v1/chat/completions"
    try:
        answer: dict[str, Any] = json.loads(ask(path, {**body, "model": MODEL.name, "stream": False}, CALLER_KEY))
    except urllib.error.HTTPError as error:
        said = error.read().decode("utf-8", "replace")
        return {"error": {"message": said, "type": "upstream_error", "code": error.code}}
    return answer


def ask(path: str, body: dict[str, Any], key: str) -> bytes:
    """POST to the engine in this container, with the key in the environment variable ``key``."""
    secret = os.environ.get(key) or os.environ.get(CALLER_KEY, "")
    headers = {"content-type": "application/json", "authorization": f"Bearer {secret}"}
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=JOB_SECONDS) as response:
        told: bytes = response.read()
    return told
