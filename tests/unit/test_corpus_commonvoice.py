"""Common Voice: releases of the published shape give the same entries however they are packed, and say so when they cannot."""

from __future__ import annotations

import os
import pickle
import tarfile
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from common_voice import BROKEN, COLUMNS, Plan, Release, client_id, recording, row, sentence_of, table, write_release, write_tar

from avskrift.corpus.entries import Entry, Stamped
from avskrift.corpus.sources.commonvoice.index import ClipIndex
from avskrift.corpus.sources.commonvoice.source import CommonVoiceSource
from avskrift.corpus.validation import check
from avskrift.errors import SourceError, StorageError
from avskrift.storage.paths import cache
from avskrift.text.normaliser import normalise

PLAN = Plan(train=10, validation=4, test=4, remainder=8, invalidated=2, other=2, broken=1)
FOLDER = "cv-corpus-17.0-2024-03-15/sv-SE"


def source(path: Path | str, *, language: str = "sv", remainder: bool = False) -> CommonVoiceSource:
    return CommonVoiceSource(uri=f"commonvoice:{path}", language=language, validated_remainder=remainder)


def without_recordings(entries: Iterable[Entry]) -> dict[str, tuple[object, ...]]:
    return {
        entry.location: (entry.text, entry.split, entry.speaker, entry.gender, entry.age, entry.accent, entry.up_votes, entry.gives_way)
        for entry in entries
    }


def stamp(entry: Entry) -> tuple[str, str]:
    return entry.location, entry.read.stamp() if isinstance(entry.read, Stamped) else str(entry.fault)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Release]:
    """The same clips, packed in every way."""
    folder = tmp_path_factory.mktemp("releases")
    packed = {"tables-first.tar.gz": True, "clips-first.tgz": False, "clips-first.tar": False, "unpacked": True}
    return {name: write_release(folder / name, plan=PLAN, tables_first=first) for name, first in packed.items()}


@pytest.fixture(params=["tables-first.tar.gz", "clips-first.tgz", "clips-first.tar", "unpacked"])
def release(request: pytest.FixtureRequest, releases: dict[str, Release]) -> Release:
    return releases[request.param]


@pytest.mark.parametrize("columns", COLUMNS)
def test_the_counts_add_up_for_the_columns_of_every_release(columns: str, tmp_path: Path) -> None:
    built = write_release(tmp_path / "release.tar.gz", plan=PLAN, release=columns, tables_first=columns != "25.0")
    entries = list(source(built.path, remainder=True).entries())
    splits = Counter("remainder" if entry.gives_way else entry.split for entry in entries)
    assert splits == built.counts == {"train": 15, "validation": 4, "test": 4, "remainder": 8}
    outcomes = {entry.location: check(entry, normalise(entry.text, "sv"), "sv") for entry in entries}
    refused = {clip: outcome.code for clip, outcome in outcomes.items() if hasattr(outcome, "code")}
    assert refused == {clip: BROKEN[kind] for kind, clips in built.broken.items() for clip in clips}
    assert len({getattr(outcome, "pcm_sha256", clip) for clip, outcome in outcomes.items()}) == len(outcomes)


def test_the_entries_are_the_same_however_the_release_is_packed(release: Release, releases: dict[str, Release]) -> None:
    expected = releases["tables-first.tar.gz"]
    found, wanted = (list(source(each.path, remainder=True).entries()) for each in (release, expected))
    assert without_recordings(found) == without_recordings(wanted)
    broken = {clip for clips in release.broken.values() for clip in clips}
    for one, other in zip(*(sorted(entries, key=lambda entry: entry.location) for entries in (found, wanted)), strict=True):
        if one.location not in broken:
            assert (one.read() == other.read()).all()


def test_only_a_clip_that_is_not_there_has_a_fault(release: Release) -> None:
    faults = {entry.location: entry.fault for entry in source(release.path).entries() if entry.fault}
    assert {clip: fault.code for clip, fault in faults.items()} == {release.broken["absent"][0]: "missing"}
    assert release.broken["absent"][0] in next(iter(faults.values())).reason


def test_the_listing_tells_all_but_the_recordings(release: Release) -> None:
    each = source(release.path, remainder=True)
    listed = list(each.listing())
    assert without_recordings(listed) == without_recordings(each.entries())
    assert not any(entry.fault for entry in listed)
    with pytest.raises(LookupError):
        listed[0].read()


def test_the_order_is_the_same_each_time_and_with_or_without_a_listing_before(release: Release) -> None:
    alone = [stamp(entry) for entry in source(release.path, remainder=True).entries()]
    listed_before = source(release.path, remainder=True)
    for _ in range(2):
        first, second = list(listed_before.listing()), list(listed_before.listing())
        assert first == second
        assert [stamp(entry) for entry in listed_before.entries()] == alone
    assert [stamp(entry) for entry in listed_before.entries()] == alone


def test_entries_are_as_in_the_tables(releases: dict[str, Release]) -> None:
    entries = {entry.location: entry for entry in source(releases["clips-first.tgz"].path).entries()}
    clip = releases["clips-first.tgz"].clips["validation"][0]
    entry = entries[clip]
    assert (entry.clip_id, entry.split, entry.speaker) == ("", "validation", client_id("validation-0"))
    assert (entry.text, entry.up_votes, entry.down_votes, entry.gives_way) == (sentence_of(10), 2, 0, False)
    assert source(releases["clips-first.tgz"].path).licence == "CC0-1.0"


def test_without_the_remainder_no_entry_gives_way(release: Release) -> None:
    entries = list(source(release.path).entries())
    assert Counter(entry.split for entry in entries) == {"train": 15, "validation": 4, "test": 4}
    assert not any(entry.gives_way for entry in entries)


def test_the_remainder_keeps_who_and_what_must_be_held_back(release: Release) -> None:
    """Leaving those out is for the merge, which knows all sources."""
    entries = {entry.location: entry for entry in source(release.path, remainder=True).entries()}
    held_out = [entry for entry in entries.values() if entry.split in ("validation", "test")]
    assert len(release.speaker_is_held_out) == len(release.sentence_is_held_out) == 2
    assert {entries[clip].speaker for clip in release.speaker_is_held_out} <= {entry.speaker for entry in held_out}
    sentences = {normalise(entry.text, "sv") for entry in held_out}
    assert {normalise(entries[clip].text, "sv") for clip in release.sentence_is_held_out} <= sentences


def test_an_entry_can_be_read_in_another_process(release: Release) -> None:
    entry = next(entry for entry in source(release.path).entries() if entry.location == release.clips["test"][0])
    assert (pickle.loads(pickle.dumps(entry.read))() == entry.read()).all()


def test_a_listing_reads_no_further_than_the_last_table(releases: dict[str, Release], tmp_path: Path) -> None:
    path = tmp_path / "head.tar"
    members = [(f"{FOLDER}/{name}", table("17.0", [row(f"{name}.mp3")])) for name in ("train.tsv", "dev.tsv", "test.tsv")]
    write_tar(path, [*members, (f"{FOLDER}/clips/train.tsv.mp3", recording(1))])
    path.write_bytes(path.read_bytes()[:-25_000])
    assert len(list(source(path).listing())) == 3
    with pytest.raises(StorageError, match="cut short"):
        list(source(path).entries())


def test_clips_that_wait_for_their_tables_wait_in_a_file_without_a_name(releases: dict[str, Release]) -> None:
    entries = source(releases["clips-first.tar"].path).entries()
    next(entries)
    assert cache().is_dir()
    assert list(cache().rglob("*")) == []
    entries.close()


def test_after_a_listing_nothing_waits_on_disk(releases: dict[str, Release]) -> None:
    each = source(releases["clips-first.tar"].path)
    assert len(list(each.listing())) == len(list(each.entries())) == 23
    assert not cache().exists()


def test_a_release_that_changes_after_the_listing_is_read_afresh(tmp_path: Path) -> None:
    path = tmp_path / "release.tar"
    release_of({"train.tsv": [row("a.mp3", sentence="Före.")]}, path, clips=["a.mp3"])
    each = source(path)
    assert [entry.text for entry in each.listing()] == ["Före."]
    release_of({"train.tsv": [row("b.mp3", sentence="Efter detta.")]}, path, clips=["b.mp3"])
    assert [(entry.location, entry.text) for entry in each.entries()] == [("b.mp3", "Efter detta.")]


def release_of(tables: Mapping[str, list[dict[str, str]] | bytes], path: Path, *, clips: Iterable[str] = (), folder: str = FOLDER) -> Path:
    """A small release; tables that are not given have no rows."""
    files = {"train.tsv": table("17.0", []), "dev.tsv": table("17.0", []), "test.tsv": table("17.0", [])}
    for name, rows in tables.items():
        files[name] = rows if isinstance(rows, bytes) else table("17.0", rows)
    members: list[tuple[str | tarfile.TarInfo, bytes]] = [
        (f"{folder}/clips/{clip}", recording(number)) for number, clip in enumerate(clips)
    ]
    return write_tar(path, [*members, *((f"{folder}/{name}", data) for name, data in files.items())])


def texts(train: bytes, tmp_path: Path) -> list[str]:
    return [entry.text for entry in source(release_of({"train.tsv": train}, tmp_path / "release.tar")).listing()]


@pytest.mark.parametrize(
    ("sentence", "text"),
    [
        ('"Hej", sa hon.', '"Hej", sa hon.'),
        ('"Ett citat som aldrig slutar.', '"Ett citat som aldrig slutar.'),
        ("  Två   mellanslag ", "Två mellanslag"),
        ("A\u030ang", "Ång"),
        ("Ett \\\\ streck", "Ett \\ streck"),
        ("C:\\mapp", "C:\\mapp"),
        ("Före\\\tefter", "Före efter"),
        ('Ett \\"citat\\"', 'Ett "citat"'),
        ("Slutar med \\", "Slutar med \\"),
        ("", ""),
    ],
)
def test_a_sentence_is_taken_as_it_is_written(sentence: str, text: str, tmp_path: Path) -> None:
    lines = table("17.0", [row("a.mp3", sentence=sentence), row("b.mp3", sentence="Nästa.")])
    assert texts(lines, tmp_path) == [text, "Nästa."]


@pytest.mark.parametrize(
    "change", [lambda data: data.replace(b"\n", b"\r\n"), lambda data: b"\xef\xbb\xbf" + data, lambda data: data + b"\n\r\n"]
)
def test_line_ends_a_byte_order_mark_and_blank_lines_make_no_difference(change: object, tmp_path: Path) -> None:
    lines = table("17.0", [row("a.mp3", sentence="Åska."), row("b.mp3", sentence="Öl.")])
    assert callable(change)
    assert texts(change(lines), tmp_path) == ["Åska.", "Öl."]


def test_columns_are_found_by_their_names_and_unknown_ones_passed_over(tmp_path: Path) -> None:
    lines = "mood\tSentence\tpath\taccents\tclient_id\nglad\tHej.\ta.mp3\tskånska\tada\n".encode()
    entry = next(source(release_of({"train.tsv": lines}, tmp_path / "release.tar")).listing())
    assert (entry.text, entry.location, entry.accent, entry.speaker) == ("Hej.", "a.mp3", "skånska", "ada")
    assert (entry.gender, entry.age, entry.up_votes, entry.down_votes) == ("", "", 0, 0)


@pytest.mark.parametrize(
    ("value", "gender"),
    [
        *(("male", "male"), ("male_masculine", "male"), ("female", "female"), ("female_feminine", "female"), ("other", "other")),
        *(("non-binary", "other"), ("transgender", "other"), ("intersex", "other"), ("", ""), ("do_not_wish_to_say", "")),
    ],
)
def test_genders_have_one_vocabulary_over_all_releases(value: str, gender: str, tmp_path: Path) -> None:
    lines = table("17.0", [row("a.mp3", gender=value, age="fourties")])
    entry = next(source(release_of({"train.tsv": lines}, tmp_path / "release.tar")).listing())
    assert (entry.gender, entry.age) == (gender, "fourties")


@pytest.mark.parametrize(
    ("train", "complaint"),
    [
        (b"", r"train\.tsv: has no column client_id, path, sentence \(found: nothing\)"),
        (b"client_id\tpath\ttext\n", r"train\.tsv: has no column sentence \(found: client_id, path, text\)"),
        (table("17.0", [row("a.mp3")]) + b"ada\tb.mp3\n", r"train\.tsv, line 3: is broken: it has 2 cells and the header 13"),
        (table("17.0", [row("a.mp3", sentence="En\textra flik")]), r"train\.tsv, line 2: is broken: it has 14 cells and the header 13"),
        (table("17.0", [row("a.mp3")]).replace(b"sv-SE", b"sv\xe5SE"), r"train\.tsv, line 2: not UTF-8 \(byte \d+ is 0xe5\); save it"),
        (table("17.0", [row("a.mp3", sentence="x" * (1 << 20))]), r"train\.tsv, line 2: is longer than 1 MiB"),
        (table("17.0", [row("a.mp3", up_votes="många")]), r"train\.tsv, line 2: up_votes is 'många', not a count"),
        (table("17.0", [row("a.mp3", down_votes="-1")]), r"train\.tsv, line 2: down_votes is '-1', not a count"),
        (table("17.0", [row("")]), r"train\.tsv, line 2: names no clip"),
        (table("17.0", [row("a.mp3"), row("a.mp3")]), r"train\.tsv, line 3: 'a\.mp3' is there already, in train\.tsv"),
    ],
)
@pytest.mark.parametrize("packed", ["release.tar", "unpacked"])
def test_a_table_that_cannot_be_understood_is_named_with_its_line(train: bytes, complaint: str, packed: str, tmp_path: Path) -> None:
    path = release_of({"train.tsv": train}, tmp_path / "release.tar")
    if packed == "unpacked":
        path = unpacked(path, tmp_path / packed)
    for walk in (source(path).listing, source(path).entries):
        with pytest.raises(SourceError, match=complaint):
            list(walk())


def unpacked(tarball: Path, folder: Path) -> Path:
    with tarfile.open(tarball) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize("tables", [["train.tsv", "test.tsv"], ["dev.tsv", "train.tsv"]])
def test_a_clip_in_two_splits_is_named_with_both(tables: list[str], tmp_path: Path) -> None:
    path = release_of({name: [row("a.mp3")] for name in tables}, tmp_path / "release.tar")
    with pytest.raises(SourceError, match=r"'a\.mp3' is there already, in (train|dev|test)\.tsv; a clip has one split"):
        list(source(path).listing())


@pytest.mark.parametrize("validated_first", [False, True])
def test_a_validated_clip_that_is_in_a_split_is_no_remainder(validated_first: bool, tmp_path: Path) -> None:
    tables = {"validated.tsv": [row("a.mp3"), row("b.mp3")], "test.tsv": [row("a.mp3")]}
    files = {
        **{name: table("17.0", []) for name in ("train.tsv", "dev.tsv")},
        **{name: table("17.0", rows) for name, rows in tables.items()},
    }
    names = sorted(files, reverse=validated_first)
    path = write_tar(tmp_path / "release.tar", [(f"{FOLDER}/{name}", files[name]) for name in names])
    listed = {entry.location: (entry.split, entry.gives_way) for entry in source(path, remainder=True).listing()}
    assert listed == {"a.mp3": ("test", False), "b.mp3": ("train", True)}


def test_a_delta_release_is_told_from_a_full_one(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "delta.tar", [(f"{FOLDER}/clips/a.mp3", b"x"), (f"{FOLDER}/validated.tsv", table("17.0", [row("a.mp3")]))])
    for each in (path, unpacked(path, tmp_path / "delta")):
        with pytest.raises(SourceError, match=r"sv-SE: has no dev\.tsv, test\.tsv, train\.tsv; a delta release has none of the splits"):
            list(source(each, remainder=True).entries())


LOCALES = [
    ("sv", ["sv-SE"], "sv-SE"),
    ("en", ["en", "eo"], "en"),
    ("no", ["nb-NO", "nn-NO"], "nb-NO"),
    ("no", ["no"], "no"),
    ("nn", ["nb-NO", "nn-NO"], "nn-NO"),
    ("jw", ["jv", "ja"], "jv"),
    ("na", ["nan-tw"], None),
    ("sv", ["de", "fi"], None),
    ("sv", [], None),
    ("zh", ["zh-CN", "zh-TW", "nan-tw"], None),
    ("zh?locale=zh-TW", ["zh-CN", "zh-TW"], "zh-TW"),
    ("zh?locale=zh", ["zh-CN", "zh-TW"], None),
    ("sv?locale=svenska", ["svenska"], "svenska"),
    ("no?locale=nn-NO", ["nb-NO", "nn-NO"], "nn-NO"),
    ("zh?locale=zh-HK", ["zh-CN", "zh-HK"], "zh-HK"),
    ("yue?locale=zh-HK", ["zh-CN", "zh-HK"], "zh-HK"),
    ("nl?locale=fy-NL", ["fy-NL", "nl"], "fy-NL"),
]


@pytest.mark.parametrize("packed", ["release.tar", "unpacked"])
@pytest.mark.parametrize(("language", "locales", "chosen"), LOCALES)
def test_the_folder_of_the_language_is_chosen(language: str, locales: list[str], chosen: str | None, packed: str, tmp_path: Path) -> None:
    members = [
        (f"cv-corpus-17.0-2024-03-15/{locale}/{name}", table("17.0", [row(f"{locale}-{name}.mp3")]))
        for locale in locales
        for name in ("dev.tsv", "test.tsv", "train.tsv")
    ]
    path = write_tar(tmp_path / "release.tar", [*members, ("cv-corpus-17.0-2024-03-15/README.md", b"")])
    path = unpacked(path, tmp_path / packed) if packed == "unpacked" else path
    code, _, query = language.partition("?")
    each = source(f"{path}{'?' + query if query else ''}", language=code)
    if chosen is None:
        with pytest.raises(SourceError) as refused:
            list(each.entries())
        assert all(locale in str(refused.value) for locale in locales if locale != "nan-tw")
        assert ("no release of Common Voice" if not locales else "--language de" if locales[0] == "de" else "?locale=") in str(
            refused.value
        )
    else:
        assert {entry.location.partition(".")[0].rpartition("-")[0] for entry in each.entries()} == {chosen}


@pytest.mark.parametrize("inside", ["", "cv-corpus-17.0-2024-03-15", "cv-corpus-17.0-2024-03-15/sv-SE"])
def test_a_release_that_was_unpacked_is_found_from_any_of_its_folders(inside: str, releases: dict[str, Release]) -> None:
    entries = [entry.location for entry in source(releases["unpacked"].path / inside).entries()]
    assert len(entries) == 23
    assert entries == sorted(entries)


def test_two_releases_in_one_folder_are_named(tmp_path: Path) -> None:
    for name in ("cv-corpus-16", "cv-corpus-17"):
        unpacked(release_of({}, tmp_path / f"{name}.tar", folder=f"{name}/sv-SE"), tmp_path / "both")
    with pytest.raises(SourceError, match=r"holds sv-SE of several releases \(cv-corpus-16/sv-SE, cv-corpus-17/sv-SE\); give one"):
        list(source(tmp_path / "both").entries())


@pytest.mark.parametrize(
    ("language", "folder", "advice"),
    [
        ("sv", "de", "give --language de to take de"),
        ("sv", "pt-BR", "give --language pt to take pt-BR"),
        ("sv", "nb-NO", "give --language no to take nb-NO"),
        ("nn", "nb-NO", "give --language no to take nb-NO"),
        ("sv", "jv", "give --language jw to take jv"),
        ("no", "nn-NO", "add ?locale=nn-NO to the source to take that one"),
        ("yue", "zh-HK", "add ?locale=zh-HK to the source to take that one"),
        ("nl", "fy-NL", "Whisper has no language for it; add ?locale=fy-NL to the source to take that one as 'nl'"),
        ("sv", "my-own", "add ?locale=my-own"),
    ],
)
def test_a_forgotten_language_is_asked_for_and_no_other_is_called_by_its_name(
    language: str, folder: str, advice: str, tmp_path: Path
) -> None:
    path = release_of({"train.tsv": [row("a.mp3")]}, tmp_path / "release.tar", folder=f"cv-corpus-17/{folder}")
    with pytest.raises(SourceError) as refused:
        list(source(path, language=language).listing())
    assert f"has no folder for the language {language!r}; it holds {folder}; " in str(refused.value)
    assert advice in str(refused.value)


@pytest.mark.parametrize(
    ("language", "locale", "codes"),
    [("sv", "de", "de"), ("de", "sv-SE", "sv"), ("sv", "nn-NO", "nn or no"), ("nn", "nb-NO", "no"), ("zh", "yue", "yue")],
)
def test_a_locale_of_another_language_is_refused(language: str, locale: str, codes: str, tmp_path: Path) -> None:
    path = release_of({"train.tsv": [row("a.mp3")]}, tmp_path / "release.tar", folder=f"cv-corpus-17/{locale}")
    with pytest.raises(SourceError, match=rf"\?locale={locale} is not of the language '{language}'; give --language {codes},"):
        list(source(f"{path}?locale={locale}", language=language).listing())


@pytest.mark.parametrize(
    "uri", ["commonvoice:", "commonvoice:?locale=sv-SE", "commonvoice:gs://bucket/release.tar.gz", "commonvoice:ftp://host/x.tar.gz"]
)
def test_a_place_that_is_not_understood_is_refused_at_once(uri: str) -> None:
    with pytest.raises(SourceError, match=r"give a release tarball \(PATH\.tar\.gz, s3://BUCKET/KEY, https://HOST/PATH\)"):
        CommonVoiceSource(uri=uri, language="sv")


def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no file or folder .*none\.tar\.gz"):
        list(source(tmp_path / "none.tar.gz").listing())


@pytest.mark.parametrize("prefix", ["file://", ""])
def test_a_path_can_be_a_uri(prefix: str, tmp_path: Path) -> None:
    path = release_of({"train.tsv": [row("a.mp3")]}, tmp_path / "a release.tar")
    assert len(list(source(f"{prefix}{path}").listing())) == 1


def test_a_secret_in_the_address_is_not_in_what_is_shown() -> None:
    each = CommonVoiceSource(uri="commonvoice:https://host/sv.tar.gz?X-Amz-Signature=deadbeef&locale=sv-SE", language="sv")
    assert each.uri == "commonvoice:https://host/sv.tar.gz?locale=sv-SE"
    assert "deadbeef" not in repr(each)
    assert source("/data/sv.tar.gz").uri == "commonvoice:/data/sv.tar.gz"


def test_of_a_clip_that_is_packed_twice_the_first_is_taken(tmp_path: Path) -> None:
    tables = [
        (f"{FOLDER}/{name}", table("17.0", [row("a.mp3")] if name == "train.tsv" else [])) for name in ("train.tsv", "dev.tsv", "test.tsv")
    ]
    clips = [(f"{FOLDER}/clips/a.mp3", recording(number)) for number in (1, 2)]
    for members in ([*tables, *clips], [*clips, *tables]):
        entries = list(source(write_tar(tmp_path / "twice.tar", members)).entries())
        assert [len(entry.read()) for entry in entries] == [len(entries[0].read())]


def test_forty_thousand_rows_stay_small() -> None:
    rows = (row(f"common_voice_sv-SE_{number}.mp3", sentence=sentence_of(number), speaker=str(number // 40)) for number in range(40_000))
    lines = iter(table("17.0", rows).splitlines(keepends=True))
    tracemalloc.start()
    try:
        index = ClipIndex(validated_remainder=True)
        index.read_table("validated.tsv", lambda limit: next(lines, b""), shown="validated.tsv")
        assert tracemalloc.get_traced_memory()[1] < 25 << 20
    finally:
        tracemalloc.stop()
    assert sum(1 for _ in index.entries()) == 40_000


def test_the_names_of_clips_are_looked_up_and_never_opened(tmp_path: Path) -> None:
    """A pipe without a writer would keep a reader for ever."""
    folder = unpacked(release_of({"train.tsv": [row("a.mp3"), row("b.mp3")]}, tmp_path / "r.tar", clips=["b.mp3"]), tmp_path / "unpacked")
    os.mkfifo(folder / FOLDER / "clips" / "a.mp3")
    faults = {entry.location: entry.fault and entry.fault.code for entry in source(folder).entries()}
    assert faults == {"a.mp3": "undecodable", "b.mp3": None}
