"""A server on the loopback interface that answers as the recorded one did.

It keeps what it is asked. Answers are taken from a script by method and path, each once and in
order; what the script does not hold is answered with 404 and shows up in the comparison.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


class Replay:
    """Context manager; `script` holds recorded exchanges.

    A `lenient` server answers what the script does not hold as an empty server would.
    """

    def __init__(
        self,
        script: Sequence[dict[str, Any]] = (),
        *,
        lenient: bool = False,
        path_of: Callable[[str], str] = unquote,
    ) -> None:
        self.lenient = lenient
        self._path_of = path_of
        self.script = [dict(exchange) for exchange in script]
        self.requests: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        replay = self

        class Handler(_Handler):
            owner = replay

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Replay:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Keep the request; return the scripted response, None when the script has none."""
        with self._lock:
            self.requests.append(request)
            for index, exchange in enumerate(self.script):
                if self._same_target(exchange["request"], request):
                    del self.script[index]
                    return _with_checksum(exchange, request)
        return None

    def _same_target(self, recorded: dict[str, Any], request: dict[str, Any]) -> bool:
        return (
            recorded["method"] == request["method"]
            and self._path_of(recorded["path"]) == self._path_of(request["path"])
            and query_of(recorded["query"]) == query_of(request["query"])
        )


def _with_checksum(exchange: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """Return the recorded response, speaking of the chunk that was really announced."""
    response: dict[str, Any] = exchange["response"] or {}
    recorded, body = exchange["request"]["body"], request["body"]
    if isinstance(body, dict) and "checksum" in body and isinstance(recorded, dict):
        text = json.dumps(response).replace(recorded["checksum"], body["checksum"])
        moved: dict[str, Any] = json.loads(text)
        return moved
    return response


def query_of(query: str) -> list[tuple[str, str]]:
    """An empty value is no value: `cursor=` asks for the first page as no cursor does."""
    return sorted(pair for pair in parse_qsl(query) if pair[1])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Replay

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        response = self.owner.answer(
            {
                "method": self.command,
                "path": parts.path,
                "query": parts.query,
                "headers": dict(self.headers.items()),
                "body": body_of(self.headers.get("Content-Type") or "", data),
            }
        )
        if response is None and self.owner.lenient:
            response = _empty_server(self.command, parts.path, data)
        elif response is None:
            response = {"status": 404, "headers": {}, "body": {"detail": "not in the script"}}
        status = response.get("status")
        note = response.get("note") or ""
        if status is None or "closed the socket" in note or "held the connection" in note:
            self.close_connection = True
            return
        self._send(status, response, truncated="closed after" in note)

    def _send(self, status: int, response: dict[str, Any], *, truncated: bool) -> None:
        body = None if status == 204 else response.get("body")
        text = body if isinstance(body, str) else "" if body is None else json.dumps(body)
        data = text.replace("127.0.0.1:PORT", f"127.0.0.1:{self.owner.port}").encode()
        self.send_response(status)
        for name, value in (response.get("headers") or {}).items():
            if name.lower() not in ("content-length", "date", "server"):
                self.send_header(name, value.replace("PORT", str(self.owner.port)))
        if status != 204:
            self.send_header("Content-Length", str(len(data) + (490 if truncated else 0)))
        self.end_headers()
        self.wfile.write(data)
        if truncated:
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = _serve

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _empty_server(method: str, path: str, data: bytes) -> dict[str, Any]:
    """Take what is sent, give an empty list or object."""
    if method in ("POST", "PUT"):
        return {"status": 200, "body": json.loads(data)}
    body: object = {} if path.endswith("previous-with-commits/") else []
    return {"status": 204 if method == "DELETE" else 200, "body": body}


def body_of(content_type: str, data: bytes) -> Any:
    """Return a body as the recording writes it."""
    if not data:
        return None
    if content_type.startswith("multipart/"):
        head = f"Content-Type: {content_type}\r\n\r\n".encode()
        message: Any = BytesParser().parsebytes(head + data)
        return {"_multipart": [_part(part) for part in message.get_payload()]}
    return json.loads(data)


def _part(part: Any) -> dict[str, Any]:
    content: bytes = part.get_payload(decode=True)
    name = part.get_param("name", header="content-disposition")
    filename = part.get_filename()
    answer: dict[str, Any] = {"field": name, "filename": filename, "bytes": len(content)}
    if filename is None:
        answer["value"] = content.decode()
    elif name == "file_gzip":
        answer["sha1_of_decompressed"] = hashlib.sha1(gzip.decompress(content)).hexdigest()
    else:
        answer["sha1"] = hashlib.sha1(content).hexdigest()
    return answer
