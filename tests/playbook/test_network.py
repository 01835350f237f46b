"""What an address has, asked of a real server by curl: files of a promised sum, answers, archives."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.playbook.conftest import Run, Shown

FILE = b"hello\n"


class Answering(BaseHTTPRequestHandler):
    """Has /file (nothing newer if asked so), /sums, /moved, and says of all else what was asked."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer."""
        if self.path == "/file" and "If-Modified-Since" in self.headers:
            return self.reply(304, b"")
        if self.path == "/moved":
            return self.reply(302, b"", Location="/echo")
        found = {"/file": FILE, "/sums": f"{hashlib.sha256(FILE).hexdigest()}  file\n0  other\n".encode()}
        if self.path in found:
            return self.reply(200, found[self.path])
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        names = ("Content-Type", "Authorization", "X-Token")
        said = {"method": self.command, "body": body, **{name: self.headers.get(name) for name in names}}
        return self.reply(404 if self.path == "/none" else 201, json.dumps(said).encode(), **{"Content-Type": "application/json"})

    do_POST = do_GET

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        """Send it."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def address() -> Iterator[str]:
    """Serve, and return where."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def changes(shown: Shown) -> int:
    assert not shown.report.reason(), shown.text
    return shown.report.tallies["pod"].changed


def test_a_file_is_brought_once_keeps_its_promise_and_is_whole_or_not_there(run: Run, address: str, tmp_path: Path) -> None:
    promised = f"- get_url: {{url: '{address}/file', dest: '{{{{ tmp }}}}/f', checksum: 'sha256:{address}/sums', mode: '0600'}}"
    assert changes(run(promised, check=True)) == 1 and not (tmp_path / "f").exists()
    assert [changes(run(promised)) for _ in range(2)] == [1, 0]
    assert (tmp_path / "f").read_bytes() == FILE and (tmp_path / "f").stat().st_mode & 0o777 == 0o600
    (tmp_path / "f").write_bytes(b"another")
    assert changes(run(promised)) == 1 and (tmp_path / "f").read_bytes() == FILE
    shown = run(f"- get_url: {{url: '{address}/file', dest: '{{{{ tmp }}}}/f'}}\n  register: got")
    assert changes(shown) == 0 and shown.facts()["got"]["status_code"] == 304  # type: ignore[index]
    wrong = run(f"- get_url: {{url: '{address}/file', dest: '{{{{ tmp }}}}/g', checksum: 'sha256:{'0' * 64}'}}")
    assert "has the sha256" in wrong.report.reason() and not list(tmp_path.glob("g*"))
    assert "404" in run(f"- get_url: {{url: '{address}/none', dest: '{{{{ tmp }}}}/g'}}").text
    assert "64 hex characters" in run(f"- get_url: {{url: '{address}/file', dest: /g, checksum: 'sha256:12'}}").report.reason()


def test_an_answer_is_told_with_its_status_and_json(run: Run, address: str, tmp_path: Path) -> None:
    shown = run(f"""
        - uri: {{url: '{address}/echo', method: POST, body_format: json, body: {{a: [1]}}, status_code: [200, 201],
                 user: me, password: 'p"w', headers: {{X-Token: s3cret}}}}
          register: posted
        - uri: {{url: '{address}/moved', return_content: true, status_code: '201'}}
          register: moved
        - uri: {{url: '{address}/none'}}
          register: none
          ignore_errors: true
        - uri: {{url: 'http://127.0.0.1:1/'}}
          register: nobody
          ignore_errors: true
        - uri: {{url: '{address}/echo', method: POST, creates: '{{{{ tmp }}}}'}}
    """)
    facts = shown.facts()
    posted, moved, none, nobody = (facts[name] for name in ("posted", "moved", "none", "nobody"))
    assert posted["json"] == {  # type: ignore[index]
        "method": "POST", "body": '{"a": [1]}', "Content-Type": "application/json", "Authorization": "Basic bWU6cCJ3", "X-Token": "s3cret",
    }  # fmt: skip
    assert "content" not in posted and moved["url"] == f"{address}/echo" and '"GET"' in moved["content"]  # type: ignore[index,operator]
    assert (none["status"], none["failed"], nobody["status"], nobody["failed"]) == (404, True, -1, True)  # type: ignore[index]
    assert shown.report.tallies["pod"].skipped == 1 and "changed=0" in str(shown.report.tallies["pod"])


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_is_unpacked_unless_all_of_it_is_there(run: Run, tmp_path: Path, kind: str) -> None:
    (tmp_path / "top/sub").mkdir(parents=True)
    (tmp_path / "top/sub/a b").write_text("1")
    (tmp_path / "out").mkdir(mode=0o750)
    if kind == "tar":
        with tarfile.open(tmp_path / "archive", "w:gz") as tar:
            tar.add(tmp_path / "top", "top")
    else:
        with zipfile.ZipFile(tmp_path / "archive", "w") as packed:
            packed.write(tmp_path / "top/sub/a b", "top/sub/a b")
    text = "- unarchive: {src: archive, dest: '{{ tmp }}/out', mode: 'u=rwX,go='}"
    file = tmp_path / "out/top/sub/a b"
    assert changes(run(text, check=True)) == 1 and not file.exists()
    assert [changes(run(text)) for _ in range(2)] == [1, 0]
    assert file.read_text() == "1" and file.stat().st_mode & 0o777 == 0o600 and (tmp_path / "out").stat().st_mode & 0o777 == 0o750
    file.write_text("2")
    assert changes(run(text.replace("src: archive", "src: '{{ tmp }}/archive', remote_src: true"))) == 1 and file.read_text() == "1"
    assert not list((tmp_path / "out").glob(".*"))
    assert "with 'remote_src: true'" in run("- unarchive: {src: none, dest: '{{ tmp }}/out'}").report.reason()
    (tmp_path / "files").mkdir()
    (tmp_path / "archive").rename(tmp_path / "files/below")
    assert run("- unarchive: {src: below, dest: '{{ tmp }}/out'}").report.exit_code == 0


BUSYBOX_TAR = """#!/bin/sh
case "$*" in --version) echo busybox; exit ;; *--show*) exit 1 ;; esac
for each; do [ "$last" != -f ] || file=$each; last=$each; done
# From a pipe tar does not find out by itself how an archive is packed.
exec TAR $(echo "$*" | sed "s|-f $file|-f -|") <"$file"
"""


def test_a_tar_that_is_not_gnus_unpacks_what_is_not_there_and_leaves_the_folder_as_it_is(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/tar").write_text(BUSYBOX_TAR.replace("TAR", shutil.which("tar") or "tar"))
    (tmp_path / "bin/tar").chmod(0o755)
    (tmp_path / "top/sub").mkdir(parents=True)
    (tmp_path / "top/sub/a").write_text("1")
    (tmp_path / "out").mkdir(mode=0o700)
    with tarfile.open(tmp_path / "archive", "w:gz") as tar:
        tar.add(tmp_path / "top", "top")
    task = f"""
        - unarchive: {{src: archive, dest: '{{{{ tmp }}}}/out', extra_opts: [--strip-components=1]}}
          environment: {{PATH: '{tmp_path}/bin:{os.environ["PATH"]}'}}
    """
    assert [changes(run(task, check=True)), *(changes(run(task)) for _ in range(2))] == [1, 1, 0]
    assert (tmp_path / "out/sub/a").read_text() == "1" and (tmp_path / "out").stat().st_mode & 0o777 == 0o700
