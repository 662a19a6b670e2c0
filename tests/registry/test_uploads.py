"""A package goes straight into S3: in parts, taken up where they were cut, and nobody ever sees half of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from s3_line import CUT, GONE, LOST, STALLED, Line
from seaweedfs import BUCKET, Store

from avskrift.errors import StorageError, UsageError
from avskrift.storage.door import fetch
from avskrift.storage.manifest import digest_folder
from avskrift.storage.uploads import UploadOptions, upload_folder

LAST = "model.json"
PART = 5 << 20
QUICK = UploadOptions(part_bytes=PART, threads=2, attempts=3, connect_seconds=1.0, read_seconds=1.0)
_PART_NUMBER = re.compile(r"^PUT .*[?&]partNumber=(?P<number>\d+)")
_BEGUN, _PART, _FINISHED, _WHOLE = r"POST .*[?&]uploads", r"PUT .*partNumber=", r"POST .*uploadId=", r"PUT .*\.md"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of three parts, and small files around them."""
    folder = tmp_path_factory.mktemp("package") / "package"
    (folder / "ct2").mkdir(parents=True)
    (folder / "ct2" / "model.bin").write_bytes(os.urandom(2 * PART + 1000))
    (folder / "README.md").write_text("å")
    (folder / LAST).write_text("{}")
    return folder


def put(package: Path, place: str, options: UploadOptions = QUICK) -> None:
    upload_folder(package, place, last=LAST, options=options)


def keys(store: Store, place: str) -> list[str]:
    prefix = place.removeprefix(f"s3://{BUCKET}/") + "/"
    return sorted(
        entry["Key"].removeprefix(prefix) for entry in store.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())
    )


def unfinished(store: Store, place: str) -> list[str]:
    prefix = place.removeprefix(f"s3://{BUCKET}/") + "/"
    return [upload["Key"] for upload in store.client.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix).get("Uploads", ())]


def parts_sent(line: Line) -> list[int]:
    return sorted(int(match["number"]) for request in line.requests if (match := _PART_NUMBER.match(request)))


def test_a_folder_arrives_byte_for_byte_and_is_not_sent_twice(package: Path, place: str, line: Line) -> None:
    put(package, place)
    assert digest_folder(fetch(place)) == digest_folder(package)
    line.requests.clear()
    put(package, place)
    assert [request for request in line.requests if request.startswith(("PUT", "POST"))] == []


def test_an_upload_that_was_cut_goes_on_with_the_parts_that_are_missing(package: Path, place: str, store: Store, line: Line) -> None:
    line.rule = lambda method, path: CUT if "partNumber=2" in path else 0
    with pytest.raises(StorageError, match=r"ct2/model\.bin: the store did not take it .* check endpoint, credentials and path"):
        put(package, place)
    assert keys(store, place) == ["README.md"]
    line.rule = lambda method, path: 0
    line.requests.clear()
    put(package, place)
    assert parts_sent(line) == [2] or parts_sent(line) == [2, 3], "part 1 had arrived"
    assert 1 not in parts_sent(line)
    assert digest_folder(fetch(place)) == digest_folder(package)
    assert unfinished(store, place) == []


def test_what_a_killed_process_had_sent_is_gone_on_with_by_another(package: Path, place: str, store: Store, line: Line) -> None:
    reached, killed = threading.Event(), threading.Event()

    def rule(method: str, path: str) -> int:
        if "partNumber=3" not in path:
            return 0
        reached.set()
        killed.wait(30)
        return GONE

    line.rule = rule
    code = f"from pathlib import Path; from avskrift.storage.uploads import *; o = UploadOptions(part_bytes={PART}, threads=1)"
    code = f"{code}; upload_folder(Path({str(package)!r}), {place!r}, last={LAST!r}, options=o)"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        assert reached.wait(30)
        process.kill()
    killed.set()
    assert keys(store, place) == ["README.md"]
    line.rule = lambda method, path: 0
    line.requests.clear()
    put(package, place)
    assert parts_sent(line) == [3]
    assert digest_folder(fetch(place)) == digest_folder(package)
    assert unfinished(store, place) == []


_REQUESTS = {"begun": _BEGUN, "part": _PART, "finished": _FINISHED, "whole": _WHOLE}
_PASSING = [
    *((name, fault) for name in ("part", "finished") for fault in (500, 503, GONE, CUT, LOST, STALLED)),
    *((name, fault) for name in ("begun", "whole") for fault in (503, LOST)),
]


@pytest.mark.parametrize(("name", "fault"), _PASSING)
def test_a_fault_that_passes_is_got_over(package: Path, place: str, store: Store, line: Line, name: str, fault: int) -> None:
    line.rule, line.stall_seconds = once(_REQUESTS[name], fault), 1.5
    here = f"{place} {name} {fault}"
    put(package, here)
    assert digest_folder(fetch(here)) == digest_folder(package)
    assert unfinished(store, here) == []


@pytest.mark.parametrize("fault", [503, CUT])
def test_a_fault_that_stays_leaves_no_folder_that_anybody_would_take_for_whole(
    package: Path, place: str, store: Store, line: Line, fault: int
) -> None:
    for number, request_ in enumerate((_BEGUN, _PART, _FINISHED, r"PUT .*model\.json")):
        here = f"{place} {fault} {number}"
        line.rule = lambda method, path, wanted=request_: fault if re.match(wanted, f"{method} {path}") else 0  # type: ignore[misc]
        with pytest.raises(StorageError):
            put(package, here)
        assert LAST not in keys(store, here)


def test_the_manifest_is_the_last_to_arrive(package: Path, place: str, line: Line) -> None:
    put(package, place)
    sent = [request for request in line.requests if request.startswith(("PUT", "POST"))]
    assert "model.json" in sent[-1]
    assert len([request for request in sent if "model.json" in request]) == 1


def test_another_package_in_the_same_place_takes_its_manifest_away_first(
    package: Path, place: str, store: Store, line: Line, tmp_path: Path
) -> None:
    put(package, place)
    other = tmp_path / "other"
    (other / "ct2").mkdir(parents=True)
    (other / "ct2" / "model.bin").write_bytes(os.urandom(2 * PART + 1000))
    (other / LAST).write_text('{"other": 1}')
    line.rule = lambda method, path: 503 if method == "POST" else 0
    with pytest.raises(StorageError):
        put(other, place)
    assert LAST not in keys(store, place)
    line.rule = lambda method, path: 0
    put(other, place)
    assert (fetch(place) / "ct2" / "model.bin").read_bytes() == (other / "ct2" / "model.bin").read_bytes()


def test_an_unfinished_upload_of_other_bytes_is_not_gone_on_with_but_aborted(package: Path, place: str, store: Store) -> None:
    key = place.removeprefix(f"s3://{BUCKET}/") + "/ct2/model.bin"
    for body in (None, os.urandom(PART)):
        begun = store.client.create_multipart_upload(Bucket=BUCKET, Key=key)
        if body:
            store.client.upload_part(Bucket=BUCKET, Key=key, UploadId=begun["UploadId"], PartNumber=1, Body=body)
    put(package, place)
    assert digest_folder(fetch(place)) == digest_folder(package)
    assert unfinished(store, place) == []


def test_an_upload_in_parts_of_another_size_is_begun_anew(package: Path, place: str, store: Store) -> None:
    key = place.removeprefix(f"s3://{BUCKET}/") + "/ct2/model.bin"
    begun = store.client.create_multipart_upload(Bucket=BUCKET, Key=key)
    head = (package / "ct2" / "model.bin").read_bytes()[: PART + 1]
    store.client.upload_part(Bucket=BUCKET, Key=key, UploadId=begun["UploadId"], PartNumber=1, Body=head)
    put(package, place)
    assert digest_folder(fetch(place)) == digest_folder(package)


def test_several_that_upload_the_same_at_once_all_come_to_the_same_end(package: Path, place: str, store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: put(package, place, UploadOptions(part_bytes=PART, threads=2)), range(4)))
    assert digest_folder(fetch(place)) == digest_folder(package)


def test_wrong_keys_are_refused_without_telling_them(package: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-secret")
    with pytest.raises(StorageError, match="check endpoint, credentials and path") as refused:
        put(package, place)
    assert "wrong-and-secret" not in str(refused.value)


def test_what_cannot_be_asked_for_is_a_usage_error(package: Path, place: str) -> None:
    with pytest.raises(UsageError, match="names no bucket"):
        put(package, "s3://")
    with pytest.raises(UsageError, match=r"no nothing\.json, so nobody could tell"):
        upload_folder(package, place, last="nothing.json")
    with pytest.raises(UsageError, match="parts have 5242880 bytes at least"):
        UploadOptions(part_bytes=1)


def once(wanted: str, fault: int) -> Callable[[str, str], int]:
    """The fault for the first request of a kind."""
    met = threading.Lock()

    def rule(method: str, path: str) -> int:
        return fault if re.match(wanted, f"{method} {path}") and met.acquire(blocking=False) else 0

    return rule
