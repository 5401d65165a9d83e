"""A server of files over HTTP that drops, refuses and holds back what it is asked for."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import threading
import time
from collections.abc import Iterable

import numpy as np

MEGABYTE = 2**20


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` with ranges, and does what its attributes say to some of the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, int]] = []
        self.drop_every = 0
        self.drop_after: int | None = None
        self.refuse, self.refusal = 0, 503
        self.pause = 0.0
        self.hold_from: int | None = None
        self.held, self.release = threading.Event(), threading.Event()
        self.ranges = True
        self.instead: Iterable[bytes] | None = None
        self.headers: dict[str, str] = {}
        self.sent = 0
        # By default its end would be noticed only half a second later.
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def put(self, name: str, size: int) -> tuple[str, str, int]:
        data = np.random.default_rng(size).bytes(size)
        self.files[name] = data
        return name, hashlib.sha256(data).hexdigest(), size


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        data = self.server.files.get(self.path.lstrip("/"))
        if data is None:
            return self.send_error(404)
        if self.server.refuse > 0:
            self.server.refuse -= 1
            return self.send_error(self.server.refusal)
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, end = (int(found[1]), int(found[2]) + 1) if found and self.server.ranges else (0, len(data))
        self.server.requests.append((self.path.lstrip("/"), start))
        if self.server.instead is not None:
            return self.send(self.server.instead)
        body = data[start:end]
        self.send_response(206 if found and self.server.ranges else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return None
        drop = self.server.drop_every and len(self.server.requests) % self.server.drop_every == 0
        if drop or (self.server.drop_after is not None and len(body) > self.server.drop_after):
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return None
        if self.server.hold_from is not None and len(self.server.requests) >= self.server.hold_from:
            self.server.held.set()
            self.server.release.wait()
        time.sleep(self.server.pause)
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def send(self, chunks: Iterable[bytes]) -> None:
        """Answer with chunks of no announced length until there is none or nobody reads."""
        self.send_response(200)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            for chunk in chunks:
                self.wfile.write(chunk)
                self.server.sent += len(chunk)

    def log_message(self, *arguments) -> None:
        pass
