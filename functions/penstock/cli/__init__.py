"""``penstock``: serve, make keys, look around."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import Any

from penstock import __version__
from penstock.cli import chat, config, keys, logs, look, serve
from penstock.errors import PenstockError


def main(arguments: list[str] | None = None) -> None:
    """Run one command. A mistake is one line on standard error and exit status 2."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack a letter of an answer
    try:
        sys.exit(options.run(options))
    except PenstockError as error:
        print(f"penstock: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="penstock", description="A serverless inference gateway.")
    parser.add_argument("--version", action="version", version=f"penstock {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    place = argparse.ArgumentParser(add_help=False)
    place.add_argument("--config", help="config.yaml (default: $PENSTOCK_CONFIG, else what is found around)")
    place.add_argument("--state", help="sqlite:///path or dynamodb://prefix (default: $PENSTOCK_STATE_URL)")
    place.add_argument("--queue", help="sqlite:///path or sqs://… (default: $PENSTOCK_QUEUE_URL)")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str, within: Any = None) -> Any:
        made = (within or commands).add_parser(name, help=text, description=text, parents=[place])
        made.set_defaults(run=run)
        return made

    serve.add(command)
    group = commands.add_parser("keys", help="Make, list and revoke keys.")
    keys.add(command, group.add_subparsers(required=True, metavar="action"))
    group = commands.add_parser("logs", help="Listen to log lines.")
    logs.add(command, group.add_subparsers(required=True, metavar="action"))
    group = commands.add_parser("config", help="Check, publish and describe configurations.")
    config.add(command, group.add_subparsers(required=True, metavar="action"))
    look.add(command)
    chat.add(command)
    return parser
