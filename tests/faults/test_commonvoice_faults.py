"""Common Voice from hostile and broken tarballs and folders, and over lines that break.

The Mozilla Data Collective is stood in for by a few lines that answer as its API does to its own client, datacollective 0.7.0.
"""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import tarfile
import threading
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import test_storage_s3 as seaweedfs
from common_voice import Plan, Release, recording, row, table, write_release, write_tar
from file_server import FileServer, serving

from avskrift.corpus.entries import MAX_CLIP_BYTES, Entry
from avskrift.corpus.sources.commonvoice.source import CommonVoiceSource
from avskrift.errors import BusyError, DiskFullError, SourceError, StorageError
from avskrift.storage import data_collective, streams
from avskrift.storage.paths import cache

FOLDER = "cv-corpus-17.0-2024-03-15/sv-SE"
Members = list[tuple[str | tarfile.TarInfo, bytes]]

store = seaweedfs.store
credentials = seaweedfs.credentials


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PAUSES_SECONDS", (0.0, 0.0, 0.0))
    monkeypatch.setattr(data_collective, "PAUSES_SECONDS", (0.0, 0.0))


@pytest.fixture(params=[True, False], ids=["tables first", "clips first"])
def tables_first(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def entries(place: object) -> list[Entry]:
    return list(CommonVoiceSource(uri=f"commonvoice:{place}", language="sv").entries())


def faults(place: object) -> dict[str, str]:
    return {entry.location: entry.fault.code if entry.fault else "" for entry in entries(place)}


def release(path: Path, clips: Members, *, tables_first: bool, rows: Iterable[str]) -> Path:
    """A release whose train clips are ``rows``; ``clips`` are the members beside the tables."""
    train = table("17.0", [row(clip, sentence=f"Mening {number}.") for number, clip in enumerate(rows)])
    tables: Members = [(f"{FOLDER}/{name}", table("17.0", [])) for name in ("dev.tsv", "test.tsv")]
    tables.append((f"{FOLDER}/train.tsv", train))
    return write_tar(path, tables + clips if tables_first else clips + tables)


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def test_names_that_lead_out_of_a_tarball_write_and_read_nothing(
    tmp_path: Path, tables_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "work" / "deep" / "inside"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    evil = ["../../evil.mp3", f"{tmp_path}/evil.mp3", "../../../../../../../../tmp/evil.mp3", "good/../../../evil.mp3"]
    clips: Members = [(name, recording(1)) for name in evil]
    clips += [(f"{FOLDER}/clips/{name}", recording(2)) for name in evil]
    clips += [(f"{FOLDER}/clips/good.mp3", recording(3)), (f"./{FOLDER}/clips/also.mp3", recording(4))]
    path = release(tmp_path / "release.tar.gz", clips, tables_first=tables_first, rows=[*evil, "good.mp3", "also.mp3"])
    assert faults(path) == {**dict.fromkeys(evil, "outside"), "good.mp3": "", "also.mp3": ""}
    assert not [found for found in tmp_path.rglob("*") if "evil" in found.name]


def test_a_second_folder_of_the_language_outside_the_release_is_refused(tmp_path: Path) -> None:
    clips: Members = [(f"{FOLDER}/clips/a.mp3", recording(1)), (f"../{FOLDER}/train.tsv", table("17.0", [row("evil.mp3")]))]
    path = release(tmp_path / "release.tar", clips, tables_first=True, rows=["a.mp3"])
    with pytest.raises(SourceError, match="holds sv-SE of several releases"):
        entries(path)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        *((tarfile.SYMTYPE, "outside"), (tarfile.LNKTYPE, "outside"), (tarfile.FIFOTYPE, "undecodable")),
        *((tarfile.CHRTYPE, "undecodable"), (tarfile.BLKTYPE, "undecodable"), (tarfile.DIRTYPE, "undecodable")),
    ],
)
def test_a_clip_that_is_no_file_is_refused(kind: bytes, code: str, tmp_path: Path, tables_first: bool) -> None:
    clips: Members = [special(f"{FOLDER}/clips/a.mp3", kind, "/etc/passwd"), (f"{FOLDER}/clips/b.mp3", recording(1))]
    path = release(tmp_path / "release.tar.gz", clips, tables_first=tables_first, rows=["a.mp3", "b.mp3"])
    assert faults(path) == {"a.mp3": code, "b.mp3": ""}


def test_a_clip_that_is_too_large_is_passed_over_unread(tmp_path: Path, tables_first: bool) -> None:
    clips: Members = [(f"{FOLDER}/clips/a.mp3", bytes(MAX_CLIP_BYTES + 1)), (f"{FOLDER}/clips/b.mp3", recording(1))]
    path = release(tmp_path / "release.tar.gz", clips, tables_first=tables_first, rows=["a.mp3", "b.mp3"])
    tracemalloc.start()
    try:
        assert faults(path) == {"a.mp3": "too_long", "b.mp3": ""}
        assert tracemalloc.get_traced_memory()[1] < MAX_CLIP_BYTES // 4
    finally:
        tracemalloc.stop()


def test_clips_that_no_split_names_are_passed_over(tmp_path: Path, tables_first: bool) -> None:
    clips: Members = [(f"{FOLDER}/clips/{name}.mp3", recording(1)) for name in "abc"]
    clips += [(f"{FOLDER}/clips/._a.mp3", b"Mac OS X"), (f"{FOLDER}/clips", b"a file called clips")]
    assert faults(release(tmp_path / "release.tar.gz", clips, tables_first=tables_first, rows=["b.mp3"])) == {"b.mp3": ""}


def test_a_table_that_is_a_link_or_too_large_is_refused(tmp_path: Path) -> None:
    linked = write_tar(tmp_path / "linked.tar", [special(f"{FOLDER}/train.tsv", tarfile.SYMTYPE, "/etc/passwd")])
    with pytest.raises(SourceError, match=r"sv-SE/train\.tsv: is no regular file"):
        entries(linked)
    huge = tarfile.TarInfo(f"{FOLDER}/train.tsv")
    huge.size = (2 << 30) + 1
    path = tmp_path / "huge.tar"
    path.write_bytes(huge.tobuf() + bytes(4096))
    with pytest.raises(SourceError, match=r"sv-SE/train\.tsv: has 2048 MiB, over the limit of 2048 MiB"):
        entries(path)


@pytest.fixture(scope="module", params=["tables-first.tar.gz", "clips-first.tar.gz", "tables-first.tar", "clips-first.tar"])
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Release:
    first = request.param.startswith("tables")
    return write_release(tmp_path_factory.mktemp("packed") / request.param, plan=Plan(train=20, remainder=0), tables_first=first)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_tarball_that_is_cut_short_says_how_far_it_went(packed: Release, share: float, tmp_path: Path) -> None:
    path = tmp_path / packed.path.name
    data = packed.path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    given: list[Entry] = []
    with pytest.raises(StorageError, match=r"it is cut short after \d\.\d MiB, after \d+ clips; download it again") as broken:
        given.extend(CommonVoiceSource(uri=f"commonvoice:{path}", language="sv").entries())
    assert str(path) in str(broken.value)
    assert "after 0 clips" not in str(broken.value)


def test_a_compressed_tarball_that_is_damaged_says_so(packed: Release, tmp_path: Path) -> None:
    data = bytearray(packed.path.read_bytes())
    where = len(data) // 2
    data[where : where + 2000] = bytes(2000)
    path = tmp_path / packed.path.name
    path.write_bytes(data)
    if path.suffix == ".gz":
        with pytest.raises(StorageError, match=r"it is damaged in its first \d\.\d MiB.*, after \d+ clips; download it again"):
            entries(path)


@pytest.mark.parametrize("content", [b"", b"not a tarball" * 100, b"PK\x03\x04" + bytes(1000)])
def test_what_is_no_tarball_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "release.tar.gz"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"release\.tar\.gz: is no tarball \(.+\); give the \.tar\.gz as Mozilla publishes it"):
        entries(path)


def test_a_folder_gives_nothing_from_outside_of_it(tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp3"
    secret.write_bytes(recording(1))
    rows = ["../../../../secret.mp3", str(secret), "link.mp3", "inner.mp3", "a.mp3", "deep/../a.mp3", "dangling.mp3"]
    clips: Members = [(f"{FOLDER}/clips/a.mp3", recording(2))]
    path = release(tmp_path / "release.tar", clips, tables_first=True, rows=rows)
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    folder = tmp_path / "unpacked" / FOLDER / "clips"
    (folder / "link.mp3").symlink_to(secret)
    (folder / "inner.mp3").symlink_to("a.mp3")
    (folder / "dangling.mp3").symlink_to("nowhere.mp3")
    codes = ["outside", "outside", "outside", "", "", "outside", "missing"]
    assert faults(tmp_path / "unpacked") == dict(zip(rows, codes, strict=True))


def test_a_folder_of_clips_that_is_a_link_out_of_the_release_gives_nothing(tmp_path: Path) -> None:
    path = release(tmp_path / "release.tar", [], tables_first=True, rows=["a.mp3"])
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.mp3").write_bytes(recording(1))
    (tmp_path / "unpacked" / FOLDER / "clips").symlink_to(tmp_path / "elsewhere")
    assert faults(tmp_path / "unpacked") == {"a.mp3": "outside"}


def test_a_table_that_is_a_link_out_of_the_folder_is_not_read(tmp_path: Path) -> None:
    path = release(tmp_path / "release.tar", [], tables_first=True, rows=[])
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (tmp_path / "secret").write_text("first line of a secret\n")
    linked = tmp_path / "unpacked" / FOLDER / "train.tsv"
    linked.unlink()
    linked.symlink_to(tmp_path / "secret")
    with pytest.raises(SourceError, match=r"train\.tsv: is a link out of the release") as refused:
        entries(tmp_path / "unpacked")
    assert "first line" not in str(refused.value)


def test_a_full_disk_is_named_where_clips_wait_for_their_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = write_release(tmp_path / "release.tar", plan=Plan(train=80), tables_first=False)
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a tmpfs")
    try:
        monkeypatch.setenv("AVSKRIFT_HOME", str(disk))
        with pytest.raises(DiskFullError, match=r"no space left on the disk that holds .*, where clips wait for the tables"):
            entries(built.path)
        used = os.statvfs(disk)
        assert (used.f_blocks - used.f_bfree) * used.f_frsize < 100_000, "what waited is still there"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_state_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = write_release(tmp_path / "release.tar", tables_first=False)
    (tmp_path / "a file").write_bytes(b"")
    monkeypatch.setenv("AVSKRIFT_HOME", str(tmp_path / "a file"))
    with pytest.raises(StorageError, match=r"cannot write to .*: Not a directory; set AVSKRIFT_HOME to a folder on another disk"):
        entries(built.path)


def said(found: Iterable[Entry]) -> list[tuple[object, ...]]:
    return [(entry.location, entry.text, entry.split, entry.fault, entry.read() is not None) for entry in found if not entry.fault]


def test_a_release_on_the_web_is_read_over_a_line_that_breaks(packed: Release) -> None:
    data = packed.path.read_bytes()
    local = said(entries(packed.path))
    with serving(FileServer(files={"/sv.tar.gz": data}, cuts=[len(data) // 3, len(data) // 3])) as server:
        assert said(entries(f"{server.url}/sv.tar.gz?signature=1")) == local
        assert len(server.ranges) == 3
        each = CommonVoiceSource(uri=f"commonvoice:{server.url}/sv.tar.gz", language="sv")
        assert len(list(each.listing())) == len(local)
        assert said(each.entries()) == local
        assert not cache().exists() or not packed.path.name.startswith("tables")


def test_a_release_whose_line_breaks_for_good_says_how_far_it_got(packed: Release) -> None:
    data = packed.path.read_bytes()
    server = FileServer(files={"/sv.tar.gz": data}, cuts=[len(data) // 2, 0, 0, 0])
    with serving(server), pytest.raises(StorageError, match=r"/sv\.tar\.gz: cannot be read on, after 0\.\d MiB of \d\.\d MiB"):
        entries(f"{server.url}/sv.tar.gz")


def test_a_release_in_a_bucket_is_read(packed: Release, store: seaweedfs.Store) -> None:
    store.put(f"cv/{packed.path.name}", packed.path.read_bytes())
    each = CommonVoiceSource(uri=f"commonvoice:s3://{seaweedfs._BUCKET}/cv/{packed.path.name}", language="sv")
    local = said(entries(packed.path))
    assert said(each.entries()) == local
    assert len(list(each.listing())) == len(local)
    assert said(each.entries()) == local


@dataclass(slots=True, kw_only=True)
class Collective:
    """What the site does: answers with these statuses first, and gives a file in ``cuts`` pieces before it gives all of it."""

    archive: bytes
    filename: str = "common-voice-sv.tar.gz"
    size: int = 0
    statuses: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    files: FileServer = field(default_factory=lambda: FileServer(files={}))


@contextmanager
def collective(site: Collective) -> Iterator[str]:
    """The two routes of the API that a download takes; the file itself comes from a server of its own, as it does there."""
    site.files.files["/archive"] = site.archive

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({"id": "sv25", "filename": site.filename, "sizeBytes": site.size or len(site.archive), "checksum": "c0ffee"})

        def do_POST(self) -> None:
            address = f"{site.files.url}/archive?X-Amz-Signature=deadbeef"
            self._answer({"downloadUrl": address, "sizeBytes": len(site.archive), "checksum": "c0ffee", "filename": site.filename})

        def _answer(self, answer: dict[str, object]) -> None:
            site.asked.append(f"{self.command} {self.path} {self.headers.get('Authorization')}")
            status = site.statuses.pop(0) if site.statuses else 200
            body = json.dumps(answer if status == 200 else {"message": "no"}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with serving(site.files), http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api"
        finally:
            server.shutdown()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collective]:
    built = write_release(tmp_path / "sv.tar.gz", plan=Plan(train=10), release="25.0", tables_first=False)
    running = Collective(archive=built.path.read_bytes())
    monkeypatch.setenv("MDC_API_KEY", "a-key")
    with collective(running) as url:
        monkeypatch.setenv("MDC_API_URL", url)
        yield running


def test_a_dataset_of_the_collective_is_downloaded_once(site: Collective) -> None:
    each = CommonVoiceSource(uri="commonvoice:mdc:sv25", language="sv")
    assert len(list(each.listing())) == len(list(each.entries())) == 26
    assert each.uri == "commonvoice:mdc:sv25"
    assert [path.name for path in (cache() / "commonvoice" / "sv25").iterdir()] == ["common-voice-sv.tar.gz"]
    assert site.files.ranges == [""]
    assert "POST /api/datasets/sv25/download Bearer a-key" in site.asked


def test_what_was_downloaded_is_read_without_a_key_or_a_network(site: Collective, monkeypatch: pytest.MonkeyPatch) -> None:
    first = said(entries("mdc:sv25"))
    monkeypatch.delenv("MDC_API_KEY")
    monkeypatch.setenv("MDC_API_URL", "http://127.0.0.1:1/api")
    assert said(entries("mdc:sv25")) == first


def test_a_download_that_breaks_off_is_gone_on_with(site: Collective) -> None:
    half = len(site.archive) // 2
    site.files.cuts = [half]
    assert len(entries("mdc:sv25")) == 26
    assert len(site.files.ranges) == 2
    assert site.files.ranges[1].startswith("bytes=")


def test_a_download_that_breaks_off_again_and_again_is_gone_on_with_by_the_next_command(site: Collective) -> None:
    site.files.cuts = [200_000, 10, 10]
    with pytest.raises(StorageError, match=r"mdc:sv25: the download broke off 3 times, at 19\d\.\d KB of .*; run the same command again"):
        entries("mdc:sv25")
    assert len(entries("mdc:sv25")) == 26
    assert site.files.ranges[-1].startswith("bytes=19")


def test_a_server_that_starts_again_where_it_should_go_on_spoils_nothing(site: Collective) -> None:
    site.files.cuts, site.files.knows_ranges = [200_000], False
    with pytest.raises(StorageError, match=r"mdc:sv25: came with another length than its \d+ bytes, and was removed"):
        entries("mdc:sv25")
    assert len(entries("mdc:sv25")) == 26


def test_a_download_that_was_killed_when_all_had_come_is_not_stuck(site: Collective) -> None:
    folder = cache() / "commonvoice" / "sv25"
    folder.mkdir(parents=True)
    (folder / "common-voice-sv.tar.gz.part").write_bytes(site.archive)
    (folder / "common-voice-sv.tar.gz.checksum").write_text("c0ffee")
    assert len(entries("mdc:sv25")) == 26


def test_a_missing_key_is_named_with_where_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MDC_API_KEY", raising=False)
    with pytest.raises(SourceError, match=r"mdc:sv25: needs MDC_API_KEY, .*; make one at https://mozilladatacollective\.com/api-reference"):
        entries("mdc:sv25")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDC_API_KEY", "a-key")
    monkeypatch.setitem(sys.modules, "datacollective", None)
    with pytest.raises(SourceError, match=r"mdc:sv25: needs the package datacollective; install avskrift\[data\]"):
        entries("mdc:sv25")


@pytest.mark.parametrize(
    ("statuses", "error", "complaint"),
    [
        ([404], SourceError, "there is no such dataset"),
        ([410], SourceError, "there is no such dataset, or no longer"),
        ([200, 200, 401], SourceError, "the key in MDC_API_KEY is not accepted"),
        ([200, 200, 403], SourceError, r"accept the terms at https://mozilladatacollective\.com/datasets/sv25"),
        ([429], StorageError, r"the site did not give it \(RateLimitError, HTTP 429\)"),
        ([200, 200, 500], StorageError, r"the site did not give it \(HTTPError, HTTP 500\)"),
    ],
)
def test_what_the_collective_refuses_is_said_with_what_to_do(
    site: Collective, statuses: list[int], error: type[Exception], complaint: str
) -> None:
    site.statuses = statuses
    with pytest.raises(error, match=complaint) as refused:
        entries("mdc:sv25")
    assert "a-key" not in str(refused.value)
    assert "deadbeef" not in str(refused.value)


def test_a_collective_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDC_API_KEY", "a-key")
    monkeypatch.setenv("MDC_API_URL", "http://127.0.0.1:1/api")
    with pytest.raises(StorageError, match=r"mdc:sv25: the site did not give it \(ConnectionError\); try again later"):
        entries("mdc:sv25")


@pytest.mark.parametrize("name", ["../../evil.tar.gz", "/tmp/evil.tar.gz", ".hidden", ""])
def test_a_name_for_the_archive_that_leads_elsewhere_is_refused(site: Collective, name: str) -> None:
    site.filename = name
    with pytest.raises(StorageError, match="the site names no archive that its client can download"):
        entries("mdc:sv25")


@pytest.mark.parametrize("dataset", ["", "../../etc", "a/b", "a b"])
def test_an_id_that_is_none_is_refused(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDC_API_KEY", "a-key")
    with pytest.raises(SourceError, match="is no id of a dataset; copy it from the dataset's page"):
        entries(f"mdc:{dataset}")


def test_two_commands_do_not_download_into_one_file(site: Collective) -> None:
    folder = cache() / "commonvoice" / "sv25"
    with data_collective._alone(folder, "sv25"), pytest.raises(BusyError, match="another command is downloading it"):
        entries("mdc:sv25")


def test_a_ctrl_c_while_downloading_is_one(site: Collective, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client takes it for a connection that broke."""
    import requests

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(requests.Response, "iter_content", interrupted)
    with pytest.raises(KeyboardInterrupt):
        entries("mdc:sv25")
