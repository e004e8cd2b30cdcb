"""``penstock logs listen``: print the log lines that other processes send by UDP."""

from __future__ import annotations

import argparse
import re
import socket
from typing import Any

from penstock.cli.inside import Command
from penstock.errors import SettingsError

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a stranger could make a terminal do."""


def add(command: Command, logs: Any) -> None:
    """Add the command to its group."""
    listen = command("listen", _listen, "Print log lines that come by UDP (REMOTE_LOG_SINK=host:port).", logs)
    listen.add_argument("--host", default="0.0.0.0", help="default: 0.0.0.0, every address")  # noqa: S104 - others send
    listen.add_argument("--port", type=int, default=9999, help="default: 9999")


def _listen(options: argparse.Namespace) -> int:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as listener:
        try:
            listener.bind((options.host, options.port))
        except (OSError, OverflowError) as error:
            where = f"{options.host}:{options.port}"
            raise SettingsError(
                f"cannot listen there: {error}. Choose another with --port or --host", where=where
            ) from None
        while True:
            line = listener.recv(65_535).decode("utf-8", "replace")
            print(_CONTROL.sub("?", line.rstrip("\n")), flush=True)
