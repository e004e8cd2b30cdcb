"""moto's DynamoDB (or the service that its argument names) on a loopback port, run as a process of its own: prints its
address, and ends with its input.

moto looks at a condition and writes in two steps, and its server has many threads: two conditional writes can both
find their condition true. DynamoDB's cannot, so here one request is answered at a time.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class OneAtATime:
    """A WSGI application that answers one request after the other, whatever the server's threads do."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._turn = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with self._turn:
            return list(self._app(environ, start_response))


class Silent(WSGIRequestHandler):
    """Keeps connections, as DynamoDB does, and logs nothing."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


def main() -> None:
    """Serve until standard input ends, which it does when the one who started this dies."""
    service = sys.argv[1] if len(sys.argv) > 1 else "dynamodb"
    server = make_server("127.0.0.1", 0, OneAtATime(create_backend_app(service)), threaded=True, request_handler=Silent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
