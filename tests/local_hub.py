"""A model hub on this machine: the few requests with which huggingface_hub uploads and downloads a model.

Everything is kept in memory.
"""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Repositories by name, each {path: bytes}; the requests so far; a status for every response, if one is set."""

    def __init__(self):
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}  # large files are uploaded separately, by their SHA-256
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()
        self.status: int | None = None
        self.url = ""

    def post(self, path: str, body: bytes):
        if path == "/api/repos/create":
            about = json.loads(body)
            name = f"{about['organization']}/{about['name']}"
            if name in self.repositories:
                return 409, {"error": "exists", "url": f"{self.url}/{name}"}
            self.repositories[name] = {}
            self.private[name] = about.get("visibility") == "private"
            return 200, {"url": f"{self.url}/{name}"}
        if path == "/api/validate-yaml":
            card = json.loads(body)["content"]
            assert card.startswith("---\n")
            return 200, {"warnings": [], "errors": []}
        if path.endswith("/info/lfs/objects/batch"):
            upload = [
                {**o, "actions": {"upload": {"href": f"{self.url}/large/{o['oid']}"}}}
                for o in json.loads(body)["objects"]
            ]
            return 200, {"transfer": "basic", "objects": upload}
        name, what = path.removeprefix("/api/models/").rsplit("/", 2)[:2]
        if what == "preupload":
            files = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for f in json.loads(body)["files"]
            ]
            return 200, {"files": files}
        assert what == "commit", path
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                self.repositories[name][value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                self.repositories[name][value["path"]] = self.large[value["oid"]]
            elif entry["key"] == "deletedFile":
                del self.repositories[name][value["path"]]
        return 200, {"commitUrl": f"{self.url}/{name}/commit/{COMMIT}", "commitOid": COMMIT}

    def put(self, path: str, body: bytes):
        digest = hashlib.sha256(body).hexdigest()
        assert path == f"/large/{digest}"
        self.large[digest] = body
        return 200, {}

    def get(self, path: str):
        """Status, content, and headers of a file."""
        if path.startswith("/api/models/"):
            parts = path.removeprefix("/api/models/").split("/")
            name = "/".join(parts[:2])
            if name not in self.repositories:
                return 404, b"{}", {"X-Error-Code": "RepoNotFound"}
            files = self.repositories[name]
            if parts[2:3] == ["tree"]:
                value = [
                    {"type": "file", "path": p, "size": len(d), "oid": hashlib.sha1(d).hexdigest()}
                    for p, d in files.items()
                ]
            else:
                value = {"id": name, "sha": COMMIT, "private": self.private[name], "siblings": []}
            return 200, json.dumps(value).encode(), {}
        user, model, resolve, _, *rest = path.strip("/").split("/")
        assert resolve == "resolve", path
        data = self.repositories[f"{user}/{model}"]["/".join(rest)]
        return 200, data, {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}


def _handler(hub: Hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _whole(self):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _chunks(self):
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _answer(self, find):
            path = unquote(urlsplit(self.path).path)
            body = self._chunks() if self.headers.get("Transfer-Encoding") else self._whole()
            hub.asked.append(f"{self.command} {path}")
            hub.tokens.add(self.headers.get("Authorization"))
            try:
                answer = find(path, body) if hub.status is None else (hub.status, {"error": "no"})
            except (KeyError, ValueError, AssertionError) as error:
                answer = 404, {"error": str(error)}
            status, content, headers = (*answer, {})[:3]
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def do_GET(self):
            self._answer(lambda path, _: hub.get(path))

        do_HEAD = do_GET

        def do_POST(self):
            self._answer(hub.post)

        def do_PUT(self):
            self._answer(hub.put)

        def log_message(self, *_):
            pass

    return Handler


@contextmanager
def running_hub():
    """A hub that responds at its `url` inside the `with` block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
