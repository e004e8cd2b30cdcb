"""The models that a worker can serve: the rows of models.toml, and the command that starts SGLang for one of them."""

from __future__ import annotations

import dataclasses
import difflib
import os
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODELS = Path(__file__).with_name("models.toml")
KINDS = ("chat", "embedding")
CALLER_KEY = "PENSTOCK_ENGINE_API_KEY"
ADMIN_KEY = "PENSTOCK_ENGINE_ADMIN_KEY"
SECRET_FLAGS = {"--api-key": CALLER_KEY, "--admin-api-key": ADMIN_KEY}


class LaunchError(Exception):
    """What keeps a worker from running, in words for whoever started it; ``status`` is the exit status to end with."""

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Model:
    """One row of models.toml; models.toml says what each field means. Zero and "" leave the choice to SGLang."""

    name: str
    model: str = ""
    revision: str = ""
    engine: str = ""
    kind: str = "chat"
    gpu: str = ""
    gpu_count: int = 1
    tensor_parallel: int = 1
    context_length: int = 0
    memory_fraction: float = 0.0
    quantization: str = ""
    tool_parser: str = ""
    reasoning_parser: str = ""
    max_running: int = 32
    max_queued: int = 64
    start_seconds: int = 900
    idle_seconds: int = 300
    min_containers: int = 0
    max_containers: int = 2
    flags: tuple[str, ...] = ()

    @property
    def modal_gpu(self) -> str:
        """What Modal calls these GPUs, as in ``H100:2``."""
        return f"{self.gpu}:{self.gpu_count}"


def read(path: Path = MODELS) -> dict[str, Model]:
    """Every row of a models.toml, by its name. Raises `LaunchError` with the file, the row and the field at fault."""
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LaunchError(f"{path} cannot be read: {error}") from error
    return {name: _row(f"{path} [{name}]", name, fields) for name, fields in rows.items()}


def find(name: str, path: Path = MODELS) -> Model:
    """The row of this name. Raises `LaunchError` with the nearest name, or all of them, when there is none."""
    rows = read(path)
    if name not in rows:
        hint = _nearest(name, rows) or f"It has {', '.join(rows) or 'no models'}."
        raise LaunchError(f"{path} has no model {name!r}. {hint} Add a row for any other.")
    return rows[name]


def command(model: Model, host: str, port: int, extra: Iterable[str] = ()) -> list[str]:
    """SGLang's whole command line, without secrets: production's flags, the row's own, then ``extra``, which win.

    Raises `LaunchError` for a flag whose value does not belong on a command line.
    """
    extra = tuple(extra)
    if shown := {flag.split("=")[0] for flag in (*model.flags, *extra)} & SECRET_FLAGS.keys():
        flag = min(shown)
        raise LaunchError(f"{flag} would be seen in the list of processes: set {SECRET_FLAGS[flag]} instead.")
    start = [str(MODELS.parent / model.engine)] if model.engine else [sys.executable, "-m", "sglang.launch_server"]
    given: list[tuple[str, object]] = [
        ("--model-path", model.model),
        ("--revision", model.revision),
        ("--served-model-name", model.name),
        ("--host", host),
        ("--port", port),
        ("--tensor-parallel-size", model.tensor_parallel),
        ("--context-length", model.context_length),
        ("--mem-fraction-static", model.memory_fraction),
        ("--quantization", model.quantization),
        ("--tool-call-parser", model.tool_parser),
        ("--reasoning-parser", model.reasoning_parser),
        ("--max-running-requests", model.max_running),
        ("--max-queued-requests", model.max_queued),
    ]
    flags = [word for flag, value in given if value for word in (flag, str(value))]
    embedding = ["--is-embedding"] if model.kind == "embedding" else []
    return [*start, *flags, "--enable-cache-report", "--enable-metrics", *embedding, *model.flags, *extra]


def check_weights(model: Model, environment: Mapping[str, str]) -> None:
    """Raise `LaunchError` where it is plain before the start that the weights are missing."""
    path = Path(model.model).expanduser()
    if not model.model or path.is_dir():
        return
    if path.is_absolute() or model.model.startswith((".", "~")):
        raise LaunchError(f"the weights of {model.name} are missing: there is no directory {path}.")
    home = environment.get("HF_HOME") or os.path.join(environment.get("HOME", "~"), ".cache", "huggingface")
    hub = Path(environment.get("HF_HUB_CACHE") or os.path.join(home, "hub"))
    kept = hub / f"models--{model.model.replace('/', '--')}"
    if environment.get("HF_HUB_OFFLINE", "0").lower() in {"1", "true", "yes", "on"} and not kept.is_dir():
        raise LaunchError(
            f"the weights of {model.name} are missing: {kept} does not exist, and HF_HUB_OFFLINE forbids a download. "
            f"Unset it, or put {model.model} there."
        )


def _row(where: str, name: str, fields: Any) -> Model:
    if not isinstance(fields, dict):
        raise LaunchError(f"{where} is no table: write [{name}] and its fields below it.")
    known = {field.name: field.default for field in dataclasses.fields(Model) if field.name != "name"}
    values: dict[str, Any] = {}
    for key, value in fields.items():
        if key not in known:
            raise LaunchError(f"{where} has an unknown field {key!r}. {_nearest(key, known)}".rstrip())
        values[key] = _value(f"{where} {key}", value, known[key])
    model = Model(name, **values)
    _check(where, model)
    return model


def _value(where: str, value: Any, default: Any) -> Any:
    if isinstance(default, tuple):
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise LaunchError(f"{where} is {value!r}, and must be a list of strings.")
        return tuple(value)
    wanted = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise LaunchError(f"{where} is {value!r}, and must be of type {type(default).__name__}.")
    return value


def _check(where: str, model: Model) -> None:
    if not model.model and not model.engine:
        raise LaunchError(f"{where} needs `model`: a Hugging Face id or a directory.")
    if model.kind not in KINDS:
        raise LaunchError(f"{where} kind is {model.kind!r}, and must be one of {', '.join(KINDS)}.")
    for field in (
        "gpu_count",
        "tensor_parallel",
        "max_running",
        "max_queued",
        "start_seconds",
        "idle_seconds",
        "max_containers",
    ):
        if getattr(model, field) < 1:
            raise LaunchError(f"{where} {field} must be at least 1.")
    if model.tensor_parallel > model.gpu_count:
        raise LaunchError(f"{where} splits over {model.tensor_parallel} GPUs, and gpu_count is {model.gpu_count}.")
    if not 0 <= model.min_containers <= model.max_containers:
        raise LaunchError(f"{where} min_containers is {model.min_containers}, and must be 0 to {model.max_containers}.")
    if not 0 <= model.memory_fraction < 1:
        raise LaunchError(f"{where} memory_fraction is {model.memory_fraction}, and must be below 1.")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else ""
