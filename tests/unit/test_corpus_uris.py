"""Several sources in one line, with weights, and paths that mean the same elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from avskrift.corpus.sources.uris import absolute, parse_sources
from avskrift.errors import SourceError

WRONG_WEIGHTS = ["-1*demo:", "-1*calls", "1e3*calls", "calls*2", "folder:calls * 2", "2,5*calls", "*calls", "twice*calls"]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("calls", "more calls", "2 + 2"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ("calls", [("calls", 1.0)]),
        (" calls ", [("calls", 1.0)]),
        ("calls + demo:", [("calls", 1.0), ("demo:", 1.0)]),
        ("2*folder:calls + 0.5*demo:tiny", [("folder:calls", 2.0), ("demo:tiny", 0.5)]),
        (".25*folder:more calls", [("folder:more calls", 0.25)]),
        ("2 * folder:calls + 0.5* demo:", [("folder:calls", 2.0), ("demo:", 0.5)]),
        ("calls\n+\ndemo:", [("calls", 1.0), ("demo:", 1.0)]),
    ],
)
def test_sources_are_joined_by_plus_signs_with_a_weight_before_them(sources: str, expected: list[tuple[str, float]], folders: Path) -> None:
    assert [(weighted.source.uri, weighted.weight) for weighted in parse_sources(sources, language="sv")] == expected


@pytest.mark.parametrize(
    ("sources", "sentence"),
    [
        ("demo: + ", "names nothing before or after a '\\+'|is not understood|there is no folder"),
        ("demo: +  + demo:tiny", "names nothing before or after"),
        ("demo: + demo:", r"'demo:' is given twice; give it once, with a weight: 2\*demo:"),
        ("0*demo:", "its weight is 0; give more than 0 and at most 100"),
        ("101*demo:", "its weight is 101"),
        *((wrong, r"a weight is a plain number and stands before the source: 2\*folder:calls") for wrong in WRONG_WEIGHTS),
        ("gone", "there is no folder or file of that name"),
        ("ftp://host/x", "is not understood; give demo:"),
        ("", "names nothing|is not understood"),
        ("demo:huge", "has no size 'huge'"),
    ],
)
def test_what_is_not_understood_is_refused(sources: str, sentence: str, folders: Path) -> None:
    with pytest.raises(SourceError, match=sentence):
        parse_sources(sources, language="sv")


def test_local_paths_are_spelled_out_and_all_else_is_left(folders: Path) -> None:
    (folders / "cv.tar.gz").write_bytes(b"")
    spelled = absolute("2*folder:calls + commonvoice:cv.tar.gz + hf://google/fleurs?config=sv_se + demo: + more calls + gone")
    assert spelled.split(" + ") == [
        f"2*folder:{folders}/calls",
        f"commonvoice:{folders}/cv.tar.gz",
        "hf://google/fleurs?config=sv_se",
        "demo:",
        f"{folders}/more calls",
        "gone",
    ]
    assert absolute(spelled) == spelled
    assert absolute("2 * folder:calls") == f"2 * folder:{folders}/calls"


def test_a_folder_with_a_star_in_its_name_has_no_weight(folders: Path) -> None:
    for name in ("a*b", "take*2"):
        (folders / name).mkdir()
    for source in ("a*b", "folder:take*2"):
        assert [(each.source.uri, each.weight) for each in parse_sources(source, language="sv")] == [(source, 1)]


# ---- a forgotten scheme


def meant(source: str) -> str:
    with pytest.raises(SourceError, match="did you mean") as refused:
        parse_sources(source, language="sv")
    return str(refused.value).partition("did you mean ")[2].partition("?")[0]


def release(folder: Path, table: str = "train.tsv") -> None:
    (folder / "clips").mkdir(parents=True)
    (folder / table).write_text("client_id\tpath\tsentence\n")


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("cv17.tar.gz", "commonvoice"), ("cv17.TGZ", "commonvoice"), ("cv17.tar", "commonvoice"), ("train-0.parquet", "parquet")],
)
def test_a_file_that_needs_a_scheme_is_answered_with_it(name: str, scheme: str, folders: Path) -> None:
    (folders / name).write_bytes(b"")
    assert meant(f"2*{name}") == f"{scheme}:{name}"


@pytest.mark.parametrize("table", ["train.tsv", "validated.tsv"])
@pytest.mark.parametrize("inside", ["", "sv-SE", "cv-corpus-17.0-2024-03-15/sv-SE"])
def test_a_folder_that_holds_a_release_is_answered_with_its_scheme(inside: str, table: str, folders: Path) -> None:
    release(folders / "cv17" / inside, table)
    assert meant("cv17") == "commonvoice:cv17"
    assert parse_sources("folder:cv17", language="sv")[0].source.uri == "folder:cv17"


def test_a_table_of_a_release_is_answered_with_the_folder(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release(folders / "cv17")
    assert meant("cv17/train.tsv") == "commonvoice:cv17"
    assert meant(f"{folders}/cv17/train.tsv") == f"commonvoice:{folders}/cv17"
    monkeypatch.chdir(folders / "cv17")
    assert meant("train.tsv") == "commonvoice:."


@pytest.mark.parametrize("name", ["dataset.json", "train-00000.parquet", "data/train-00000.parquet"])
def test_a_folder_of_parquet_files_is_answered_with_their_scheme(name: str, folders: Path) -> None:
    (folders / "made" / name).parent.mkdir(parents=True)
    (folders / "made" / name).write_bytes(b"")
    assert meant("made") == "parquet:made"


@pytest.mark.parametrize("beside", ["a.wav", "sub/a.flac", "metadata.csv"])
def test_a_folder_with_recordings_is_taken_for_that_whatever_else_it_holds(beside: str, folders: Path) -> None:
    (folders / "own" / beside).parent.mkdir(parents=True)
    for name in ("dataset.json", "notes.parquet", beside):
        (folders / "own" / name).write_bytes(b"")
    assert parse_sources("own", language="sv")[0].source.uri == "own"


def test_a_manifest_beside_clips_of_ones_own_is_no_release(folders: Path) -> None:
    (folders / "clips").mkdir()
    (folders / "train.tsv").write_text("path\tsentence\nclips/a.wav\thej\n")
    assert parse_sources("train.tsv", language="sv")[0].source.uri == "train.tsv"
