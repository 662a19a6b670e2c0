"""Tarballs as a stream: what tarfile writes is read as tarfile reads it, and what is damaged is never taken for whole."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from avskrift.storage.tarball import BrokenTarballError, NotATarballError, Tarball

Member = tuple[str, str, bytes]  # kind, name, content
_FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
_TYPES = {"file": tarfile.REGTYPE, "link": tarfile.SYMTYPE, "folder": tarfile.DIRTYPE, "other": tarfile.FIFOTYPE}

_part = st.text(st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=30)
_name = st.lists(_part, min_size=1, max_size=9).map("/".join)
_members = st.lists(
    st.one_of(
        st.tuples(st.just("file"), _name, st.binary(max_size=1500)),
        st.tuples(st.sampled_from(["link", "folder", "other"]), _name, st.just(b"")),
    ),
    max_size=6,
)


def written(members: list[Member], *, how: str = "pax") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=_FORMATS[how]) as archive:
        for kind, name, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.size = _TYPES[kind], len(content)
            info.linkname = "somewhere else" if kind == "link" else ""
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def read(data: bytes) -> list[Member]:
    tarball = Tarball(io.BytesIO(data))  # type: ignore[arg-type]  # any stream of bytes will do
    return [(member.kind, member.name, tarball.read()) for member in tarball]


def read_by_tarfile(data: bytes) -> list[Member]:
    kinds = {value: name for name, value in _TYPES.items()}
    found = []
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for info in archive:
            content = archive.extractfile(info) if info.isfile() else None
            found.append((kinds[info.type], info.name, content.read() if content else b""))
    return found


@settings(max_examples=60, deadline=None)
@given(members=_members, how=st.sampled_from(["gnu", "pax"]), compressed=st.booleans())
@example(members=[("file", "a/" * 140 + "clip.mp3", b"x")], how="gnu", compressed=False)
@example(members=[("file", "a/" * 140 + "clip.mp3", b"x")], how="pax", compressed=True)
def test_what_tarfile_writes_is_read_as_tarfile_reads_it(members: list[Member], how: str, compressed: bool) -> None:
    data = written(members, how=how)
    expected = [(kind, plain(name), content) for kind, name, content in read_by_tarfile(data)]
    assert read(gzip.compress(data) if compressed else data) == expected


def plain(name: str) -> str:
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name.rstrip("/")


_short_name = st.text("abc/._ ", min_size=1, max_size=90).map(lambda name: f"x{name}")


@settings(max_examples=20, deadline=None)
@given(members=st.lists(st.tuples(st.just("file"), _short_name, st.binary(max_size=600)), max_size=4))
def test_the_oldest_format_is_read(members: list[Member]) -> None:
    data = written(members, how="ustar")
    assert read(data) == [(kind, plain(name), content) for kind, name, content in read_by_tarfile(data)]


def test_a_long_path_is_split_over_two_fields_in_the_oldest_format() -> None:
    name = "/".join(["folder"] * 20) + "/clip.mp3"
    assert [found for _, found, _ in read(written([("file", name, b"x")], how="ustar"))] == [name]


def test_a_leading_dot_is_no_part_of_a_name() -> None:
    assert read(written([("file", "./././clip.mp3", b"x"), ("file", ".hidden", b"")])) == [
        ("file", "clip.mp3", b"x"),
        ("file", ".hidden", b""),
    ]


def test_several_gzip_streams_one_after_the_other_are_one_tarball_and_zeros_behind_them_are_nothing() -> None:
    members: list[Member] = [("file", f"{number}", bytes([number]) * 3000) for number in range(4)]
    data = written(members)
    pieces = b"".join(gzip.compress(data[start : start + 700]) for start in range(0, len(data), 700))
    assert read(pieces) == members
    assert read(pieces + bytes(100)) == members


def test_what_is_not_read_of_a_member_is_passed_over() -> None:
    tarball = Tarball(io.BytesIO(written([("file", "a", b"one\ntwo\nthree"), ("file", "b", b"four")])))  # type: ignore[arg-type]
    assert [(member.name, tarball.readline(100)) for member in tarball] == [("a", b"one\n"), ("b", b"four")]


def test_lines_end_with_their_member_and_are_cut_at_the_limit() -> None:
    tarball = Tarball(io.BytesIO(written([("file", "a", b"one\ntwotwo"), ("file", "b", b"three")])))  # type: ignore[arg-type]
    next(iter(tarball))
    assert [tarball.readline(5) for _ in range(4)] == [b"one\n", b"twotw", b"o", b""]


@pytest.fixture(scope="module")
def whole() -> list[Member]:
    return [
        ("file", "cv/clips/a.mp3", bytes(range(256)) * 5),
        ("link", "cv/clips/b.mp3", b""),
        ("file", "cv/train.tsv", b"client_id\tpath\n"),
    ]


@settings(max_examples=80, deadline=None)
@given(cut=st.floats(0, 1, exclude_max=True), compressed=st.booleans())
def test_a_tarball_that_is_cut_short_is_never_taken_for_whole(whole: list[Member], cut: float, compressed: bool) -> None:
    data = written(whole)
    data = gzip.compress(data) if compressed else data
    data = data[: int(cut * len(data))]
    given, complaint = read_until_it_breaks(data)
    assert given == whole[: len(given)]
    assert complaint or given == whole


@settings(max_examples=80, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_compressed_tarball_with_a_flipped_bit_is_never_taken_for_whole(whole: list[Member], where: float, bit: int) -> None:
    data = bytearray(gzip.compress(written(whole), mtime=0))
    data[int(where * len(data))] ^= 1 << bit
    given, complaint = read_until_it_breaks(bytes(data))
    assert complaint or given == whole


def read_until_it_breaks(data: bytes) -> tuple[list[Member], str]:
    tarball = Tarball(io.BytesIO(data))  # type: ignore[arg-type]
    given: list[Member] = []
    try:
        given.extend((member.kind, member.name, tarball.read()) for member in tarball)
    except (BrokenTarballError, NotATarballError) as error:
        return given, str(error)
    return given, ""


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(whole: list[Member]) -> None:
    data = bytearray(written(whole, how="ustar"))
    data[512 + 1536 + 3] ^= 1  # the name of the second member
    with pytest.raises(BrokenTarballError, match=r"it is damaged in its first 0\.0 MiB"):
        read(bytes(data))


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"client_id\tpath\n" * 100, b"PK\x03\x04" + bytes(2000), gzip.compress(b"client_id\tpath\n" * 100), gzip.compress(b"")],
    ids=["nothing", "a letter", "a table", "a zip", "a table in gzip", "nothing in gzip"],
)
def test_what_is_no_tarball_is_told_from_a_broken_one(data: bytes) -> None:
    with pytest.raises(NotATarballError):
        read(data)


def test_a_tarball_that_ends_right_behind_its_last_member_is_cut_short(whole: list[Member]) -> None:
    """Zeros mark the end; without them nobody knows whether more was to come."""
    data = written(whole)
    end = data.index(b"client_id\tpath\n") + 512
    with pytest.raises(BrokenTarballError, match=r"it is cut short after 0\.0 MiB"):
        read(data[:end])


def header(name: bytes, size: bytes, kind: bytes) -> bytes:
    block = bytearray(512)
    block[0 : len(name)] = name
    block[124 : 124 + len(size)] = size
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_a_size_of_more_than_eleven_octal_digits_is_read() -> None:
    size = b"\x80" + (5).to_bytes(11, "big")
    assert read(header(b"a", size, b"0") + b"hello" + bytes(507) + bytes(1024)) == [("file", "a", b"hello")]


@pytest.mark.parametrize("size", [b"\xff" * 12, b"-0000000005\0", b"0o000000005\0", b"99999999999\0"], ids=str)
def test_a_size_that_is_no_number_is_named(size: bytes) -> None:
    with pytest.raises(BrokenTarballError, match="a size that is no number"):
        read(header(b"a", size, b"0") + bytes(2048))


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"])
def test_a_header_that_says_it_goes_on_for_a_gibibyte_is_refused_before_that_is_read(kind: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BrokenTarballError, match="goes on for 1073741824 bytes"):
            read(header(b"a", b"10000000000\0", kind) + bytes(4 << 20))
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_thousands_of_headers_for_one_member_are_read_without_recursion() -> None:
    long_name = header(b"././@LongLink", b"00000000002\0", b"L") + b"n\0" + bytes(510)
    assert read(long_name * 5000 + header(b"a", b"00000000000\0", b"0") + bytes(1024)) == [("file", "n", b"")]


@pytest.mark.parametrize("record", [b"11 path=a\n", b"999 path=a\n", b"path=a\n", b"0 path=a\n", b"8 path=a", b"\n"])
def test_an_extended_header_that_does_not_add_up_is_damage(record: bytes) -> None:
    data = header(b"x", b"%011o\0" % len(record), b"x") + record.ljust(512, b"\0") + header(b"a", b"00000000000\0", b"0") + bytes(1024)
    with pytest.raises(BrokenTarballError, match="the extended header of a member is damaged"):
        read(data)


@pytest.mark.parametrize("digits", [21, 5000])
def test_a_size_that_no_file_has_is_damage(digits: int) -> None:
    """Python refuses to read a number of more than 4300 digits, with a ValueError of its own."""
    length = digits + len(" size=\n")
    length += len(str(length + len(str(length))))
    record = b"%d size=%s\n" % (length, b"9" * digits)
    assert len(record) == length
    padded = record + bytes(-len(record) % 512)
    data = header(b"x", b"%011o\0" % length, b"x") + padded + header(b"a", b"00000000000\0", b"0") + bytes(1024)
    with pytest.raises(BrokenTarballError, match="the extended header of a member is damaged"):
        read(data)


def test_the_size_in_an_extended_header_is_that_of_the_member_and_not_of_another_header() -> None:
    extended = header(b"x", b"%011o\0" % 9, b"x") + b"9 size=5\n".ljust(512, b"\0")
    long_name = header(b"././@LongLink", b"00000000002\0", b"L") + b"n\0" + bytes(510)
    data = extended + long_name + header(b"a", b"00000000000\0", b"0") + b"hello".ljust(512, b"\0") + bytes(1024)
    assert read(data) == [("file", "n", b"hello")]


def test_links_and_devices_have_no_content_whatever_size_they_claim() -> None:
    data = header(b"link", b"00000001000\0", b"2") + header(b"pipe", b"00000001000\0", b"6") + header(b"a", b"00000000000\0", b"0")
    assert read(data + bytes(1024)) == [("link", "link", b""), ("other", "pipe", b""), ("file", "a", b"")]


def test_a_bomb_is_unpacked_a_piece_at_a_time() -> None:
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb") as compressor:
        compressor.write(header(b"a", b"%011o\0" % (100 << 20), b"0"))
        for _ in range(100):
            compressor.write(bytes(1 << 20))
        compressor.write(bytes(1024))
    tracemalloc.start()
    try:
        tarball = Tarball(io.BytesIO(file.getvalue()))  # type: ignore[arg-type]
        assert [member.size for member in tarball] == [100 << 20]
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_a_stream_that_fails_is_not_taken_for_a_broken_tarball() -> None:
    class Failing(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any, /) -> int:
            raise TimeoutError("no answer")

    with pytest.raises(TimeoutError, match="no answer"):
        list(Tarball(Failing()))
