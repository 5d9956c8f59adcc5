"""A server of files that remembers what it was asked for."""

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Served:
    """Where files are served, and the `METHOD /path` of each request so far."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[str] = []

    def times(self, file: str) -> int:
        """How often a file was fetched."""
        return sum(request.startswith(f"GET /{file}") for request in self.requests)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """Serve a folder on this machine until the end of the block."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_request(self, *_: Any) -> None:
            served.requests.append(f"{self.command} {self.path}")

        def log_error(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Served(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
