"""Files from a server on this machine: whole, broken off, gone on with, or other ones."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pnm.formats.fetched_files import FetchError, Wanted, fetch, is_wanted

CONTENT = bytes(range(256)) * 1000
WANTED = Wanted(len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


class Server:
    """Serves ``content`` under any path; breaks off after ``most`` bytes of a reply, and may ignore Range."""

    def __init__(self):
        self.content, self.most, self.knows_ranges, self.asked = CONTENT, None, True, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.headers.get("Range"))
                if outer.content is None:
                    self.send_error(404)
                    return
                stated = self.headers.get("Range") if outer.knows_ranges else None
                first = int(stated.removeprefix("bytes=").rstrip("-")) if stated else 0
                if first >= len(outer.content):
                    self.send_error(416)
                    return
                part = outer.content[first:]
                self.send_response(206 if stated else 200)
                if stated:
                    last, size = len(outer.content) - 1, len(outer.content)
                    self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
                self.send_header("Content-Length", str(len(part)))
                self.end_headers()
                self.wfile.write(part[: outer.most])

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/folder/file.bin"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


def test_a_file_is_fetched_once(server, tmp_path):
    path = tmp_path / "new" / "file.bin"
    fetch(server.url, path, WANTED)
    fetch(server.url, path, WANTED)
    assert path.read_bytes() == CONTENT and server.asked == [None] and is_wanted(path, WANTED)
    assert not path.with_name("file.bin.part").exists()


def test_a_broken_transfer_is_gone_on_with(server, tmp_path):
    path, server.most = tmp_path / "file.bin", 100_000
    fetch(server.url, path, WANTED)  # three connections
    assert server.asked == [None, "bytes=100000-", "bytes=200000-"] and path.read_bytes() == CONTENT
    path.unlink()
    server.most = 50_000
    with pytest.raises(FetchError, match="150000 of 256000 bytes arrived, which are kept: run the same command again"):
        fetch(server.url, path, WANTED)
    assert not path.exists()
    server.most = None
    fetch(server.url, path, WANTED)
    assert server.asked[-1] == "bytes=150000-" and path.read_bytes() == CONTENT


def test_a_server_without_ranges_starts_anew(server, tmp_path):
    server.knows_ranges, path = False, tmp_path / "file.bin"
    path.with_name("file.bin.part").write_bytes(b"x" * 1000)
    fetch(server.url, path, WANTED)
    assert server.asked == ["bytes=1000-"] and path.read_bytes() == CONTENT


def test_another_file_is_refused_and_nothing_is_kept(server, tmp_path):
    path = tmp_path / "file.bin"
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(FetchError, match="is another file than expected"):
        fetch(server.url, path, WANTED)
    server.content = CONTENT + b"more"
    with pytest.raises(FetchError, match="is larger than the 256000 bytes"):
        fetch(server.url, path, WANTED)
    path.with_name("file.bin.part").write_bytes(b"x" * 1000)  # of another file
    server.content = CONTENT
    with pytest.raises(FetchError, match="is another file than expected"):
        fetch(server.url, path, WANTED)
    assert not list(tmp_path.glob("*.part")) and not path.exists()
    fetch(server.url, path, WANTED)


def test_errors_say_what_to_do(server, tmp_path):
    server.content = None
    with pytest.raises(FetchError, match=r"cannot be had \(404 Not Found\): ask me"):
        fetch(server.url, tmp_path / "file.bin", WANTED, remedy="ask me")
    server.close()
    with pytest.raises(FetchError, match="cannot be had .*refused"):
        fetch(server.url, tmp_path / "file.bin", WANTED)
    with pytest.raises(FetchError, match="is no web address"):
        fetch("file:///etc/passwd", tmp_path / "file.bin", WANTED)
    (tmp_path / "a-file").write_text("", "utf-8")
    with pytest.raises(FetchError, match="can't be written"):
        fetch(server.url, tmp_path / "a-file" / "file.bin", WANTED)
