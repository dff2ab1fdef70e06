"""Downloads arrive whole or not at all, and are checked from then on. The server is local."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import h5py
import numpy as np
import pytest
from bellmark.agents.core.errors import InvalidData
from bellmark.offline import download, scores
from bellmark.offline.dataset import dataset


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("content") / "any.hdf5"
    with h5py.File(path, "w") as file:
        file["observations"] = np.random.default_rng(0).random((50, 11), np.float32)
        file["actions"] = np.zeros((50, 3), np.float32)
        file["rewards"] = np.ones(50, np.float32)
        file["terminals"] = np.zeros(50, bool)
        file["timeouts"] = np.arange(50) % 10 == 9
    return path.read_bytes()


@pytest.fixture
def server(content, monkeypatch):
    """Answers /whole, /short (half of what it announces), /html, /wrong (HDF5 of another schema), else 404."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            kind = self.path.split("/")[1]
            if kind not in ("whole", "short", "html", "damaged", "unstated"):
                self.send_error(404)
                return
            body = {"html": b"<html>moved</html>", "damaged": content[: len(content) // 2]}.get(kind, content)
            self.send_response(200)
            if kind != "unstated":
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if kind == "short" else body)

        def log_message(self, *args):
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    httpd.requests = requests
    httpd.address = f"http://127.0.0.1:{httpd.server_port}"
    yield httpd
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_whole_file_arrives_with_its_checksum(server, content, tmp_path):
    path = tmp_path / "new" / "hopper.hdf5"
    download.download(f"{server.address}/whole/hopper.hdf5", path, progress=False)
    assert path.read_bytes() == content
    assert (
        tmp_path / "new" / "hopper.hdf5.sha256"
    ).read_text() == f"{hashlib.sha256(content).hexdigest()}  hopper.hdf5\n"
    assert sorted(p.name for p in path.parent.iterdir()) == ["hopper.hdf5", "hopper.hdf5.sha256"]


def test_length_need_not_be_stated(server, content, tmp_path):
    download.download(f"{server.address}/unstated/hopper.hdf5", tmp_path / "hopper.hdf5", progress=False)
    assert (tmp_path / "hopper.hdf5").read_bytes() == content


@pytest.mark.parametrize("before", [None, b"what was there"])
@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("short", download.DownloadFailed, "could not be downloaded (only"),
        ("missing", download.DownloadFailed, "answered 404 Not Found"),
        ("html", InvalidData, "sent is no D4RL file"),
        ("damaged", InvalidData, "is truncated or damaged"),
    ],
)
def test_failure_leaves_everything_as_it_was(server, tmp_path, kind, error, message, before):
    path, url = tmp_path / "hopper.hdf5", f"{server.address}/{kind}/hopper.hdf5"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(error) as raised:
        download.download(url, path, progress=False)
    assert message in str(raised.value)
    assert f"try again, or put the file there by hand: {url} as {path}" in str(raised.value)
    assert [p.name for p in tmp_path.iterdir()] == ([] if before is None else ["hopper.hdf5"])
    assert before is None or path.read_bytes() == before


def test_no_server_and_no_folder(server, tmp_path):
    url = f"{server.address}/whole/hopper.hdf5"
    server.shutdown()
    server.server_close()
    with pytest.raises(download.DownloadFailed, match=r"could not be downloaded .*Connection refused.*by hand"):
        download.download(url, tmp_path / "hopper.hdf5", progress=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(download.DownloadFailed, match="by hand"):
        download.download(url, tmp_path / "file" / "hopper.hdf5", progress=False)


def test_interruption_removes_what_was_begun(server, tmp_path, monkeypatch):
    def interrupted(path):
        assert path.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr("bellmark.offline.d4rl.check", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download.download(f"{server.address}/whole/hopper.hdf5", tmp_path / "hopper.hdf5", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_an_id_is_downloaded_once_and_checked_from_then_on(server, content, tmp_path, monkeypatch):
    row = scores.references()["hopper-medium-v2"]
    changed = row._replace(url=f"{server.address}/whole/hopper_medium-v2.hdf5")
    monkeypatch.setitem(scores.references(), row.id, changed)
    monkeypatch.setenv("BELLMARK_DATA", str(tmp_path))
    first, second = dataset("hopper-medium-v2"), dataset("hopper-medium-v2")
    assert server.requests == ["/whole/hopper_medium-v2.hdf5"]
    assert first.path == tmp_path / "hopper_medium-v2.hdf5" and first.id == "hopper-medium-v2"
    assert first.sha256 == second.sha256 == hashlib.sha256(content).hexdigest()
    assert first.buffer.transitions == 45 and first.env_id == "Hopper-v4"
    assert "not D4RL" not in first.protocol
    assert dataset(first.path).id == "hopper-medium-v2"  # the same file by its path
    altered = bytearray(content)
    altered[-1] ^= 1
    first.path.write_bytes(altered)
    with pytest.raises(InvalidData, match=r"is not the file that was downloaded: its SHA-256 is .* remove both files"):
        dataset("hopper-medium-v2")
    (tmp_path / "hopper_medium-v2.hdf5.sha256").unlink()
    assert dataset("hopper-medium-v2").sha256 == hashlib.sha256(altered).hexdigest() != first.sha256


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("BELLMARK_DATA", str(tmp_path))
    assert download.cache_folder() == tmp_path
    monkeypatch.delenv("BELLMARK_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert download.cache_folder() == tmp_path / ".d4rl" / "datasets"
