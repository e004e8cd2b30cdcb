"""Settings: the environment and ``config.yaml``, checked as a whole before anything starts.

The only module that reads ``os.environ``. A mistake is one ``SettingsError``: file, line, key, what to do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from penstock.errors import SettingsError
from penstock.schema.config import HASHED, Document, Server
from penstock.schema.key import Caller
from penstock.schema.secret import Secret
from penstock.schema.source import Source

if TYPE_CHECKING:
    from penstock.schema.alert_section import ChannelSection

DEFAULT_STATE = "sqlite:///.penstock/state.db"
SHORTEST = 16
"""Characters of a fleet's secret at least."""
KEY_ENDS = ("_API_KEY", "AWS_BEARER_TOKEN_BEDROCK")
"""How the names of variables end that hold a vendor's key."""
KEY_VARIABLES = ("ROUTER_API_KEY", "ROUTER_ALLOWED_API_KEYS", "API_KEYS")


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a process is told, until it is told anew.

    ``keys`` are the configured callers by the SHA-256 of their key, ``credentials`` the secrets by the environment
    variable that holds them, ``fleet_secret`` what workers sign with. ``door`` names the Lambda function, or is empty
    on a server, ``region`` AWS's where it is said, ``service`` what CloudWatch calls it. Without a ``queue_url`` the
    queue is a file beside the state's; without an ``objects_url`` large documents are in a folder beside a state that
    is a file, else nowhere. In the ``metrics_folder`` several processes of one server put what they count together, and
    the version that they live by. The ``cache_url`` of a Redis may hold a password.

    ``source`` is the text that ``document`` was read from, ``version`` its number in the state (0: none), ``listens``
    what it says of the server before the command line does, and ``again`` reads everything anew with another text under
    another number.
    """

    state_url: str = DEFAULT_STATE
    queue_url: str = ""
    objects_url: str = ""
    metrics_folder: str = ""
    config_path: str = ""
    door: str = ""
    region: str = ""
    service: str = "penstock"
    document: Document = field(default_factory=Document)
    keys: Mapping[str, Caller] = field(default_factory=dict)
    credentials: Mapping[str, Secret] = field(default_factory=dict)
    fleet_secret: Secret | None = None
    cache_url: Secret | None = None
    source: Source | None = None
    version: int = 0
    listens: Server = field(default_factory=Server)
    again: Callable[[Source | None, int], Settings] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Files in which a cluster leaves tokens for a process, to be changed for AWS credentials; empty where it does not.

    ``web`` is for the ``role``, at the token service of ``sts``; ``pod`` for the container's own address.
    """

    role: str = ""
    session: str = ""
    web: str = ""
    sts: str = ""
    pod: str = ""


def load(
    environ: Mapping[str, str] | None = None,
    *,
    config: str | None = None,
    state: str | None = None,
    queue: str | None = None,
    host: str | None = None,
    port: int | None = None,
    source: Source | None = None,
    version: int = 0,
) -> Settings:
    """Read the environment and the configuration it names; arguments go before variables, a ``source`` before a file.

    Raises ``SettingsError``, whose text is one line for a person.
    """
    environ = os.environ if environ is None else environ
    path = config or environ.get("PENSTOCK_CONFIG", "")
    source = source or _source(path)
    said = _document(source)
    document = _debugged(_rated(_logs(_tasks(_listening(said, environ, host, port), environ), environ)))
    return Settings(
        state_url=_state_url(state or environ.get("PENSTOCK_STATE_URL") or DEFAULT_STATE, environ),
        queue_url=_queue_url(queue or environ.get("PENSTOCK_QUEUE_URL") or "", environ),
        objects_url=_objects_url(environ.get("PENSTOCK_OBJECTS_URL", ""), environ),
        metrics_folder=environ.get("PENSTOCK_METRICS_FOLDER", ""),
        config_path=path,
        door=environ.get("PENSTOCK_DOOR", ""),
        region=_region(environ),
        service=environ.get("POWERTOOLS_SERVICE_NAME") or "penstock",
        document=document,
        keys=_keys(document, environ),
        credentials={name: Secret(value) for name, value in environ.items() if value and name.endswith(KEY_ENDS)}
        | _named(document, environ, source)
        | (_of_channels(document.alerts.channels, environ, source) if document.alerts else {}),
        fleet_secret=_fleet_secret(environ),
        cache_url=Secret(cache) if (cache := environ.get("PENSTOCK_CACHE_URL")) else None,
        source=source,
        version=version,
        listens=said.server,
        again=partial(_again, environ, config=config, state=state, queue=queue, host=host, port=port),
    )


def _again(environ: Mapping[str, str], source: Source | None, version: int, **given: Any) -> Settings:
    return load(environ, source=source, version=version, **given)


def export(settings: Settings) -> None:
    """Put what was settled on the command line into the environment that worker processes inherit."""
    os.environ["PENSTOCK_STATE_URL"] = settings.state_url
    os.environ["PENSTOCK_QUEUE_URL"] = settings.queue_url
    os.environ["PENSTOCK_OBJECTS_URL"] = settings.objects_url
    os.environ["PENSTOCK_METRICS_FOLDER"] = settings.metrics_folder
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


def tokens(environ: Mapping[str, str] | None = None) -> Tokens:
    """The files that EKS names in the environment: for a role of a service account, or for a pod."""
    environ = os.environ if environ is None else environ
    region = _region(environ)
    usual = f"https://sts.{region}.amazonaws.com" if region else "https://sts.amazonaws.com"
    return Tokens(
        role=environ.get("AWS_ROLE_ARN", ""),
        session=environ.get("AWS_ROLE_SESSION_NAME", "penstock"),
        web=environ.get("AWS_WEB_IDENTITY_TOKEN_FILE", ""),
        sts=environ.get("AWS_ENDPOINT_URL_STS", usual),
        pod=environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", ""),
    )


def path_of(config: str | None) -> str:
    """The configuration file that is meant; empty if none is."""
    return config or os.environ.get("PENSTOCK_CONFIG", "")


def believing(source: Source) -> dict[str, str]:
    """The environment, with every variable that a configuration names: it is checked here, and used elsewhere."""
    from penstock.config import secrets  # noqa: PLC0415 - only a file needs pydantic and PyYAML

    return dict.fromkeys(secrets.variables(source), "set elsewhere, we believe") | dict(os.environ)


def check_kept(source: Source) -> None:
    """Raise ``SettingsError`` if what the state keeps of a configuration cannot do for it."""
    _document(Source(source.name, kept(source)))


def read(path: str) -> Source:
    """The text of a configuration file. Raises ``SettingsError``."""
    from penstock import config  # noqa: PLC0415 - only a file needs pydantic and PyYAML

    return config.read(path)


def kept(source: Source) -> str:
    """The text of a configuration as the state keeps it: without secrets."""
    from penstock.config import secrets  # noqa: PLC0415 - only a file needs pydantic and PyYAML

    return secrets.kept(source)


def _source(path: str) -> Source | None:
    return read(path) if path else None


def _document(source: Source | None) -> Document:
    if source is None:
        return Document()
    from penstock.config import document_of  # noqa: PLC0415 - only a file needs pydantic and PyYAML

    return document_of(source)


def fault(source: Source | None, keys: list[int | str], message: str) -> SettingsError:
    """A mistake in the configuration that shows only once it is put to use, with its line."""
    if source is None:
        return SettingsError(message, setting=".".join(map(str, keys)))
    from penstock import config  # noqa: PLC0415 - only a file needs pydantic and PyYAML

    return config.fault(source, keys, message)


def _listening(document: Document, environ: Mapping[str, str], host: str | None, port: int | None) -> Document:
    given = port if port is not None else environ.get("PENSTOCK_PORT") or document.server.port
    try:
        host = host or environ.get("PENSTOCK_HOST") or document.server.host
        server = replace(document.server, host=host, port=int(given))
    except ValueError:
        setting = "--port" if port is not None else "PENSTOCK_PORT"
        raise SettingsError(f"{str(given)!r} is no number from 1 to 65535", setting=setting) from None
    return replace(document, server=server)


def _rated(document: Document) -> Document:
    """The document with ``rate_limit`` as the gateway's limit."""
    if document.rate_limit is None:
        return document
    return replace(document, limits=replace(document.limits, gateway=document.rate_limit.limits))


def _debugged(document: Document) -> Document:
    if not document.server.debug:
        return document
    return replace(document, logging=replace(document.logging, level="DEBUG"))


TASK_VARIABLES = (
    ("MAX_NEW_TOKENS", "tasks", "max_tokens", int),
    ("TEMPERATURE", "tasks", "temperature", float),
    ("TASK_TIME_LIMIT", "jobs", "time_limit", float),
)
"""Variables that go before the file: their section there, key and kind."""
BACKENDS = {"ollama": "OLLAMA_MODEL", "transformers": "MODEL_NAME"}
"""The variable that names the model of tasks, by what ``MODEL_BACKEND`` says."""


def _tasks(document: Document, environ: Mapping[str, str]) -> Document:
    """The configuration with what the environment says about tasks, in the words of the system that had them first."""
    for name, section, key, kind in TASK_VARIABLES:
        if value := environ.get(name, "").strip():
            document = _with(document, name, section, **{key: _number(name, value, kind)})
    backend = environ.get("MODEL_BACKEND", "").strip().lower()
    if backend and backend not in BACKENDS:
        raise SettingsError(f"must be one of {', '.join(BACKENDS)}", setting="MODEL_BACKEND")
    name = BACKENDS.get(backend, "")
    return _with(document, name, "tasks", model=model) if (model := environ.get(name, "").strip()) else document


def _logs(document: Document, environ: Mapping[str, str]) -> Document:
    """The configuration with the listener that the environment names."""
    name = "REMOTE_LOG_SINK"
    sink = environ.get(name, "").strip()
    return _with(document, name, "logging", remote_sink=sink) if sink else document


def _number(name: str, value: str, kind: type[int | float]) -> int | float:
    try:
        return kind(value)
    except ValueError:
        raise SettingsError(f"{value!r} is no {'whole ' if kind is int else ''}number", setting=name) from None


def _with(document: Document, name: str, section: str, **values: Any) -> Document:
    """The document with these values in a section; a ``SettingsError`` names the variable that they come from."""
    try:
        return replace(document, **{section: replace(getattr(document, section), **values)})
    except ValueError as error:
        raise SettingsError(str(error).partition(": ")[2], setting=name) from None


def _keys(document: Document, environ: Mapping[str, str]) -> dict[str, Caller]:
    """Callers of the keys that came with the configuration; each is named after where its key stands."""
    found: dict[str, Caller] = {}
    listed = [("config", key) for key in document.auth.api_keys]
    for name in KEY_VARIABLES:
        listed += [(name.lower(), key.strip()) for key in environ.get(name, "").split(",") if key.strip()]
    for number, (source, key) in enumerate(listed):
        sha256 = key.removeprefix(HASHED) if key.startswith(HASHED) else Secret(key).sha256()
        found.setdefault(sha256, Caller(key_id=f"{source}-{number + 1}", scopes=("inference", "metrics")))
    return found


def _fleet_secret(environ: Mapping[str, str]) -> Secret | None:
    secret = environ.get("PENSTOCK_FLEET_SECRET", "")
    if secret and len(secret) < SHORTEST:
        raise SettingsError(f"must have at least {SHORTEST} characters", setting="PENSTOCK_FLEET_SECRET")
    return Secret(secret) if secret else None


def _named(document: Document, environ: Mapping[str, str], source: Source | None) -> dict[str, Secret]:
    """The credentials that providers name; a variable that is not set is an error, unless the provider is off."""
    found = {}
    for number, provider in enumerate(document.providers or ()):
        name = provider.api_key_env
        if not name or not provider.enabled:
            continue
        if not environ.get(name):
            message = f"the environment variable {name} is not set: set it, or write 'enabled: false'"
            raise fault(source, ["providers", number, "api_key_env"], message)
        found[name] = Secret(environ[name])
    if name := document.workers.api_key_env:
        if not environ.get(name):
            raise fault(source, ["workers", "api_key_env"], f"the environment variable {name} is not set")
        found[name] = Secret(environ[name])
    return found


def _of_channels(channels: ChannelSection, environ: Mapping[str, str], source: Source | None) -> dict[str, Secret]:
    """The secrets that channels of alerts name; a variable that is not set is an error."""
    email, webhook = channels.email, channels.webhook
    places: list[tuple[list[int | str], Any]] = [
        (["email", "password_env"], email and email.password_env),
        (["webhook", "url_env"], webhook and webhook.url_env),
    ]
    for name, other in channels.others.items():
        places += [
            (["others", name, "options", key], other.options[key]) for key in other.options if key[-4:] == "_env"
        ]
    found = {}
    for keys, name in places:
        if name and not environ.get(name):
            raise fault(source, ["alerts", "channels", *keys], f"the environment variable {name} is not set")
        if name:
            found[str(name)] = Secret(environ[name])
    return found


def _queue_url(url: str, environ: Mapping[str, str]) -> str:
    """The address of the queue, with AWS's own variables for endpoint and region written into it."""
    if not url.startswith("sqs://"):
        return url
    endpoint = environ.get("AWS_ENDPOINT_URL_SQS") or environ.get("AWS_ENDPOINT_URL")
    return _with_options(url, endpoint=endpoint, region=None if "amazonaws.com" in url else _region(environ))


def _objects_url(url: str, environ: Mapping[str, str]) -> str:
    """The address of large documents, with AWS's own variables for endpoint and region written into it."""
    if not url.startswith("s3://"):
        return url
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    return _with_options(url, endpoint=endpoint, region=_region(environ))


def _state_url(url: str, environ: Mapping[str, str]) -> str:
    """The address of the state, with AWS's own variables for endpoint and region written into it."""
    if not url.startswith("dynamodb://"):
        return url
    endpoint = environ.get("AWS_ENDPOINT_URL_DYNAMODB") or environ.get("AWS_ENDPOINT_URL")
    region = _region(environ)
    return _with_options(url, endpoint=endpoint, region=region)


def _with_options(url: str, **options: str | None) -> str:
    """The address with those of its options that it lacks."""
    for name, value in options.items():
        if value and f"{name}=" not in url:
            url += f"{'&' if '?' in url else '?'}{name}={value}"
    return url


def _region(environ: Mapping[str, str]) -> str:
    return environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ""
