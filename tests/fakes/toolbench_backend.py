"""A ToolBench backend on loopback whose answers a test sets and which keeps what it received."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Backend:
    """State of the backend: `delay`, when set, holds every answer back until the event."""

    url: str = ""
    status: int = 200
    body: bytes = b'{"error": "", "response": "ok"}'
    headers: dict[str, str] = field(default_factory=dict)
    delay: threading.Event | None = None
    received: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)


@contextmanager
def serve_backend() -> Iterator[Backend]:
    state = Backend()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.received.append((self.path, headers, json.loads(body)))
            if state.delay is not None:
                state.delay.wait(10)
            self.send_response(state.status)
            for name, value in ({"content-length": str(len(state.body))} | state.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(state.body)

        def log_message(self, *_: object) -> None:
            """Keep the test output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/virtual"
    yield state
    if state.delay is not None:
        state.delay.set()
    server.shutdown()
    server.server_close()
    thread.join(5)
