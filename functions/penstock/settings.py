"""Settings: the environment and ``config.yaml``, checked as a whole before anything starts.

The only module that reads ``os.environ``. A mistake is one ``SettingsError``: file, line, key, what to do.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from penstock.errors import SettingsError
from penstock.schema.key import Caller
from penstock.schema.secret import Secret

DEFAULT_STATE = "sqlite:///.penstock/state.db"
KEY_VARIABLES = ("ROUTER_API_KEY", "ROUTER_ALLOWED_API_KEYS", "API_KEYS")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class App(_Section):
    """Names for people: shown by ``penstock doctor`` and ``/docs``."""

    name: str = "Penstock"
    version: str | None = None
    environment: str | None = None


class Server(_Section):
    """Where ``penstock serve`` listens; the command line goes before it."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000


class Auth(_Section):
    """Who may call. ``api_keys`` are full keys that need no store; the header is a second place to look for one."""

    mode: Literal["keys", "none"] = "keys"
    api_keys: list[str] = []
    api_key_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] = "X-API-Key"


class Request(_Section):
    """Bounds of one request: seconds for all attempts together, bytes of a body, attempts, seconds between pings."""

    timeout: Annotated[float, Field(gt=0, le=3600)] = 300.0
    max_body_bytes: Annotated[int, Field(ge=1024)] = 20 * 1024 * 1024
    attempts: Annotated[int, Field(ge=1, le=20)] = 3
    ping_interval: Annotated[float, Field(gt=0, le=15)] = 15.0


class Logging(_Section):
    """``level`` of the log lines on standard error; at ``INFO`` each request writes one."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["json", "text"] = "json"


class Model(_Section):
    """A public model name and what the provider calls it."""

    name: str
    upstream: str


class Provider(_Section):
    """One place that answers: an engine or a vendor. Times in seconds; a lower ``priority`` is tried first."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    type: str
    base_url: Annotated[str, Field(pattern=r"^https?://[^\s/]+")] | None = None
    api_key_env: str | None = None
    models: list[str | Model] = []
    enabled: bool = True
    priority: int = 1
    timeout: Annotated[float, Field(gt=0, le=3600)] = 300.0
    connect_timeout: Annotated[float, Field(gt=0, le=60)] = 5.0
    custom_headers: dict[str, str] = {}
    options: dict[str, str | int | float | bool] = {}


class Document(_Section):
    """``config.yaml``."""

    app: App = App()
    server: Server = Server()
    auth: Auth = Auth()
    request: Request = Request()
    logging: Logging = Logging()
    providers: list[Provider] | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a process is told, once and for good.

    ``keys`` are the configured callers by the SHA-256 of their key, ``credentials`` the secrets by the environment
    variable that holds them. ``door`` names the Lambda function, or is empty on a server.
    """

    state_url: str = DEFAULT_STATE
    queue_url: str = ""
    config_path: str = ""
    door: str = ""
    document: Document = field(default_factory=Document)
    keys: Mapping[str, Caller] = field(default_factory=dict)
    credentials: Mapping[str, Secret] = field(default_factory=dict)


def load(
    environ: Mapping[str, str] | None = None,
    *,
    config: str | None = None,
    state: str | None = None,
    queue: str | None = None,
    host: str | None = None,
    port: int | None = None,
) -> Settings:
    """Read the environment and the configuration it names; arguments go before variables.

    Raises ``SettingsError``, whose text is one line for a person.
    """
    environ = os.environ if environ is None else environ
    path = config or environ.get("PENSTOCK_CONFIG", "")
    document = _listening(read_document(path) if path else Document(), environ, host, port)
    return Settings(
        state_url=_state_url(state or environ.get("PENSTOCK_STATE_URL") or DEFAULT_STATE, environ),
        queue_url=queue or environ.get("PENSTOCK_QUEUE_URL", ""),
        config_path=path,
        door=environ.get("PENSTOCK_DOOR", ""),
        document=document,
        keys=_keys(document, environ),
        credentials={name: Secret(value) for name, value in environ.items() if value and name.endswith("_API_KEY")}
        | _named(document, environ, path),
    )


def export(settings: Settings) -> None:
    """Put what was settled on the command line into the environment that worker processes inherit."""
    os.environ["PENSTOCK_STATE_URL"] = settings.state_url
    os.environ["PENSTOCK_QUEUE_URL"] = settings.queue_url
    os.environ["PENSTOCK_CONFIG"] = settings.config_path
    os.environ["PENSTOCK_HOST"] = settings.document.server.host
    os.environ["PENSTOCK_PORT"] = str(settings.document.server.port)


def client_key(environ: Mapping[str, str] | None = None) -> Secret | None:
    """The key that ``penstock chat`` presents: ``PENSTOCK_API_KEY``, else the first of the configured ones."""
    environ = os.environ if environ is None else environ
    for name in ("PENSTOCK_API_KEY", *KEY_VARIABLES):
        if key := environ.get(name, "").split(",")[0].strip():
            return Secret(key)
    return None


def read_document(path: str) -> Document:
    """Check a configuration file as a whole. Raises ``SettingsError`` for its first mistake."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError("there is no such file; config.example.yaml is one to start from", where=path) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"cannot be read: {reason}", where=path) from None
    tree = _compose(text, path)
    values = yaml.safe_load(text) if tree is not None else {}
    if not isinstance(values, dict):
        raise SettingsError("must hold a mapping of sections such as 'providers:'", where=f"{path}:1")
    try:
        document = Document.model_validate(values)
    except ValidationError as error:
        raise _first_mistake(error, tree, path) from None
    _check_providers(document, tree, path)
    return document


def _compose(text: str, path: str) -> yaml.Node | None:
    try:
        tree: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_repeats(tree, path)
        yaml.safe_load(text)
        return tree
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}" if mark else path
        raise SettingsError(f"is not YAML: {error.problem}", where=where) from None
    except yaml.YAMLError as error:
        raise SettingsError(f"is not YAML: {str(error).splitlines()[0]}", where=path) from None


def _refuse_repeats(node: yaml.Node | None, path: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise SettingsError("is given twice", setting=str(key.value), where=f"{path}:{key.start_mark.line + 1}")
            seen.add(key.value)
            _refuse_repeats(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeats(value, path)


def _first_mistake(error: ValidationError, tree: yaml.Node | None, path: str) -> SettingsError:
    mistakes = error.errors(include_url=False, include_input=False)
    mistake = next((m for m in mistakes if m["type"] == "extra_forbidden"), mistakes[0])
    keys = tuple(key for key in mistake["loc"] if not (isinstance(key, str) and key in ("str", "Model", "list[str]")))
    message = mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(keys[-1]), _known_keys(keys[:-1]), n=1, cutoff=0.5)
        message = "nothing reads this key" + (f"; did you mean {close[0]!r}?" if close else "")
    return SettingsError(message, setting=".".join(map(str, keys)), where=f"{path}:{_line(tree, keys)}")


def _known_keys(keys: tuple[int | str, ...]) -> list[str]:
    """The keys of the section at this place of the document."""
    section: type[BaseModel] = Document
    for key in keys:
        if isinstance(key, str):
            section = {**globals(), "Providers": Provider, "Models": Model}.get(key.capitalize(), section)
    return list(section.model_fields)


def _line(tree: yaml.Node | None, keys: tuple[int | str, ...]) -> int:
    """The line of the deepest part of the path that the file holds."""
    line = 1
    for key in keys:
        if isinstance(tree, yaml.MappingNode):
            pair = next(((k, v) for k, v in tree.value if k.value == str(key)), None)
            if pair is None:
                break
            line, tree = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(tree, yaml.SequenceNode) and isinstance(key, int) and key < len(tree.value):
            tree = tree.value[key]
            line = tree.start_mark.line + 1
        else:
            break
    return line


def _check_providers(document: Document, tree: yaml.Node | None, path: str) -> None:
    names: set[str] = set()
    for number, provider in enumerate(document.providers or ()):
        if provider.name in names:
            where = f"{path}:{_line(tree, ('providers', number, 'name'))}"
            raise SettingsError(
                f"{provider.name!r} is the name of two providers", setting="providers.name", where=where
            )
        names.add(provider.name)


def _listening(document: Document, environ: Mapping[str, str], host: str | None, port: int | None) -> Document:
    given = {"host": host or environ.get("PENSTOCK_HOST"), "port": port or environ.get("PENSTOCK_PORT")}
    try:
        server = Server.model_validate(document.server.model_dump() | {k: v for k, v in given.items() if v})
    except ValidationError as error:
        mistake = error.errors()[0]
        raise SettingsError(mistake["msg"], setting=str(mistake["loc"][0])) from None
    return document.model_copy(update={"server": server})


def _keys(document: Document, environ: Mapping[str, str]) -> dict[str, Caller]:
    """Callers of the keys that came with the configuration; each is named after where its key stands."""
    found: dict[str, Caller] = {}
    listed = [("config", key) for key in document.auth.api_keys]
    for name in KEY_VARIABLES:
        listed += [(name.lower(), key.strip()) for key in environ.get(name, "").split(",") if key.strip()]
    for number, (source, key) in enumerate(listed):
        found.setdefault(Secret(key).sha256(), Caller(key_id=f"{source}-{number + 1}", scopes=("inference", "metrics")))
    return found


def _named(document: Document, environ: Mapping[str, str], path: str) -> dict[str, Secret]:
    """The credentials that providers name; a variable that is not set is an error, unless the provider is off."""
    found = {}
    for number, provider in enumerate(document.providers or ()):
        name = provider.api_key_env
        if not name or not provider.enabled:
            continue
        if not environ.get(name):
            raise SettingsError(
                f"the environment variable {name} is not set: set it, or write 'enabled: false'",
                setting=f"providers.{number}.api_key_env",
                where=path,
            )
        found[name] = Secret(environ[name])
    return found


def _state_url(url: str, environ: Mapping[str, str]) -> str:
    """The address of the state, with AWS's own variables for endpoint and region written into it."""
    if not url.startswith("dynamodb://"):
        return url
    endpoint = environ.get("AWS_ENDPOINT_URL_DYNAMODB") or environ.get("AWS_ENDPOINT_URL")
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    for name, value in (("endpoint", endpoint), ("region", region)):
        if value and f"{name}=" not in url:
            url += f"{'&' if '?' in url else '?'}{name}={value}"
    return url
