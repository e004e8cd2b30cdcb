"""Where a request goes, and what is the same in all that go there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from penstock.schema.http_section import USUAL, Wire

Headers = Sequence[tuple[str, str]]


class Origin:
    """Scheme, host and port of a server, and what a request line to it begins with."""

    __slots__ = ("host", "port", "title", "tls")

    def __init__(self, tls: bool, host: str, port: int) -> None:
        self.tls, self.host, self.port = tls, host, port
        self.title = f"{host}:{port}"


@lru_cache(maxsize=1024)
def _split(url: str) -> tuple[Origin, str, str]:
    """Origin, request target and Host header of a URL; ``ValueError`` if it is not http or https."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not an http:// or https:// address")
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Origin(tls, parts.hostname, port), target, host if parts.port is None else f"{host}:{port}"


class Target:
    """A place to send requests to, with what is the same in all of them already written."""

    __slots__ = ("head", "origin", "wire")

    def __init__(self, method: str, url: str, headers: Headers, wire: Wire = USUAL) -> None:
        self.wire = wire
        self.origin, path, host = _split(url)
        lines = [f"{method} {path} HTTP/1.1", f"host: {host}", *(f"{name}: {value}" for name, value in headers)]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("an outgoing header holds a line break")
        self.head = "\r\n".join(lines).encode("latin-1", "replace")
