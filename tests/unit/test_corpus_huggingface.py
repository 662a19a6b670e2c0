"""Data sets of the hub, through the real `datasets` and hub client, from a stand-in of the hub on a loopback port."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from huggingface_hub_stand_in import COMMIT, Hub, Repository, hugging_face_hub

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus.sources.huggingface import HuggingFaceSource
from avskrift.errors import SourceError, StorageError

_READER = Path(__file__).parents[1] / "huggingface_reader.py"
_AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_FLEURS = "google/fleurs"
_VOICES = "fixie-ai/common_voice_17_0"


def recording(seconds: float = 0.5) -> bytes:
    with io.BytesIO() as file:
        sf.write(file, 0.3 * np.sin(np.arange(int(seconds * SAMPLE_RATE)) / 9), SAMPLE_RATE, format="FLAC")
        return file.getvalue()


def parquet(fields: list[tuple[str, Any]], rows: list[dict[str, Any]], features: dict[str, Any], row_group_size: int = 2) -> bytes:
    schema = pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})
    with io.BytesIO() as file:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), file, row_group_size=row_group_size)
        return file.getvalue()


def card(configs: dict[str, list[str]], folder: str) -> bytes:
    lines = [
        f"- config_name: {config}\n  data_files:\n" + "".join(_data_files(folder, config, splits)) for config, splits in configs.items()
    ]
    return f"---\nlicense: cc-by-4.0\nconfigs:\n{''.join(lines)}---\n# A data set\n".encode()


def _data_files(folder: str, config: str, splits: list[str]) -> list[str]:
    return [f"  - split: {split}\n    path: {folder}{config}/{split}-*\n" for split in splits]


def fleurs(sentences: list[str], data: bytes) -> bytes:
    """Of the shape of google/fleurs, whose genders are numbers with names and whose sentences come raw and folded."""
    fields = [("id", pa.int32()), ("num_samples", pa.int32()), ("path", pa.string()), ("audio", _AUDIO)]
    fields += [("transcription", pa.string()), ("raw_transcription", pa.string()), ("gender", pa.int64())]
    features: dict[str, Any] = {"audio": {"sampling_rate": SAMPLE_RATE, "_type": "Audio"}}
    features |= {name: {"dtype": str(kind), "_type": "Value"} for name, kind in fields if name not in ("audio", "gender")}
    features["gender"] = {"names": ["male", "female", "other"], "_type": "ClassLabel"}
    rows = [
        {
            "id": 1600 + number,
            "num_samples": 8000,
            "path": f"/somewhere/{number}.wav",
            "audio": {"bytes": data, "path": f"{number}.wav"},
            "transcription": sentence.lower().strip("!"),
            "raw_transcription": sentence,
            "gender": number % 3,
        }
        for number, sentence in enumerate(sentences)
    ]
    return parquet(fields, rows, features)


def voices(sentences: list[str], data: bytes) -> bytes:
    """Of the shape of fixie-ai/common_voice_17_0."""
    texts = ["client_id", "path", "sentence", "age", "gender", "accent", "locale", "segment", "variant"]
    fields = [(name, pa.string()) for name in texts] + [("audio", _AUDIO), ("up_votes", pa.int64()), ("down_votes", pa.int64())]
    features: dict[str, Any] = {name: {"dtype": str(kind), "_type": "Value"} for name, kind in fields}
    features["audio"] = {"sampling_rate": 48_000, "_type": "Audio"}
    rows = [
        dict.fromkeys(texts, "")
        | {
            "client_id": f"client {number}",
            "path": f"common_voice_sv-SE_{number}.mp3",
            "audio": {"bytes": data, "path": f"common_voice_sv-SE_{number}.mp3"},
            "sentence": sentence,
            "gender": "female_feminine",
            "age": "twenties",
            "accent": "Göteborg",
            "up_votes": 2,
            "down_votes": number,
        }
        for number, sentence in enumerate(sentences)
    ]
    return parquet(fields, rows, features)


def repositories() -> dict[str, Repository]:
    data = recording()
    swedish = {f"parquet-data/sv_se/train-0000{number}-of-00002.parquet": fleurs(["Ett!", "Två!", "Tre!"], data) for number in range(2)}
    swedish["parquet-data/sv_se/validation-00000-of-00001.parquet"] = fleurs(["Fyra!"], data)
    swedish["parquet-data/sv_se/test-00000-of-00001.parquet"] = fleurs(["Fem!"], data)
    danish = {f"parquet-data/da_dk/{split}-00000-of-00001.parquet": fleurs(["En!"], data) for split in ("train", "validation", "test")}
    parts = ["train", "validation", "test", "other", "invalidated"]
    spoken = {f"sv-SE/{part}-00000-of-00001.parquet": voices([f"{part} ett", f"{part} två"], data) for part in parts}
    configs = {"da_dk": ["train", "validation", "test"], "sv_se": ["train", "validation", "test"]}
    metadata = "file_name,transcription\na.flac,hej\nb.flac,då\n"
    one = fleurs(["Ett!"], data)
    return {
        _FLEURS: Repository(files={"README.md": card(configs, "parquet-data/"), **swedish, **danish}, card={"license": ["cc-by-4.0"]}),
        _VOICES: Repository(files={"README.md": card({"sv-SE": parts}, ""), **spoken}, card={"license": "cc0-1.0"}),
        "org/folder": Repository(files={"train/metadata.csv": metadata.encode(), "train/a.flac": data, "train/b.flac": data}),
        "org/gated": Repository(files={"train-0.parquet": one}, gated=True),
        "org/lines": Repository(files={"train.jsonl": b'{"audio": "a.wav", "text": "hej"}\n'}),
        "org/one": Repository(files={"data/everything.parquet": one}),
        "org/script": Repository(files={"script.py": b"import datasets", "README.md": b"# A script"}),
        "org/truncated": Repository(files={"train-0.parquet": one[:-9]}),
        "org/withdrawn": Repository(files={"train-0.parquet": one}, withdrawn={"train-0.parquet"}),
        "org/empty": Repository(files={"README.md": b"# Nothing"}),
        "org/names": Repository(files={"train-0.parquet": _named(data)}),
        "org/large": Repository(files={"train-0.parquet": _large(30, row_group_size=30)}),
        "org/long": Repository(files={"train-0.parquet": _large(60, row_group_size=1)}),
    }


def _named(data: bytes) -> bytes:
    """A row with a name, one with a recording, one with neither."""
    cells = [{"bytes": None, "path": "/etc/hostname"}, {"bytes": data, "path": None}, None]
    features = {"audio": {"_type": "Audio"}, "text": {"dtype": "string", "_type": "Value"}}
    return parquet([("audio", _AUDIO), ("text", pa.string())], [{"audio": cell, "text": "hej"} for cell in cells], features)


def _large(rows: int, row_group_size: int) -> bytes:
    """Recordings of 400 kB each: together more than the client fetches at a time."""
    fields = [("audio", _AUDIO), ("text", pa.string())]
    noise = np.random.default_rng(5)
    clips = [{"audio": {"bytes": noise.bytes(400_000), "path": None}, "text": f"mening {number}"} for number in range(rows)]
    features = {"audio": {"_type": "Audio"}, "text": {"dtype": "string", "_type": "Value"}}
    return parquet(fields, clips, features, row_group_size)


class Reader:
    """A process that reads sources from one hub."""

    def __init__(self, hub: Hub, process: subprocess.Popen[str]) -> None:
        self.hub = hub
        self._process = process

    def ask(self, uri: str, walk: str = "entries", **options: Any) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"uri": uri, "walk": walk, **options}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def entries(self, uri: str, walk: str = "entries", **options: Any) -> list[dict[str, Any]]:
        answer = self.ask(uri, walk, **options)
        assert "entries" in answer, answer
        found: list[dict[str, Any]] = answer["entries"]
        return found

    def refusal(self, uri: str, kind: str = "SourceError", walk: str = "entries") -> str:
        answer = self.ask(uri, walk)
        assert answer.get("error") == kind, answer
        assert uri in answer["message"]
        return str(answer["message"])


@contextmanager
def reading(hub: Hub, home: Path, **environment: str) -> Iterator[Reader]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    kept |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home / "hf"), "AVSKRIFT_HOME": str(home / "avskrift"), **environment}
    with subprocess.Popen([sys.executable, _READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=kept) as process:
        yield Reader(hub, process)
        assert process.stdin
        process.stdin.close()
        assert process.wait(30) == 0


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with hugging_face_hub(repositories()) as started:
        yield started


@pytest.fixture(scope="module")
def reader(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with reading(hub, tmp_path_factory.mktemp("reader")) as started:
        yield started


# ---- what is read


def test_fleurs_is_read_with_case_and_punctuation_genders_by_name_and_its_own_splits(reader: Reader) -> None:
    found = reader.entries(f"hf://{_FLEURS}?config=sv_se")
    assert [(entry["location"], entry["text"], entry["gender"], entry["split"]) for entry in found] == [
        ("sv_se/train/0", "Ett!", "male", "train"),
        ("sv_se/train/1", "Två!", "female", "train"),
        ("sv_se/train/2", "Tre!", "other", "train"),
        ("sv_se/train/3", "Ett!", "male", "train"),
        ("sv_se/train/4", "Två!", "female", "train"),
        ("sv_se/train/5", "Tre!", "other", "train"),
        ("sv_se/validation/0", "Fyra!", "male", "validation"),
        ("sv_se/test/0", "Fem!", "male", "test"),
    ]
    assert {entry["samples"] for entry in found} == {SAMPLE_RATE // 2}
    assert not any(entry["fault"] or entry["speaker"] for entry in found)


def test_common_voice_is_read_with_speakers_and_votes_and_without_what_is_no_split_of_ours(reader: Reader) -> None:
    found = reader.entries(f"hf://{_VOICES}?config=sv-SE")
    assert [entry["split"] for entry in found] == ["train", "train", "validation", "validation", "test", "test"]
    second = found[1]
    assert (second["text"], second["speaker"], second["up_votes"], second["down_votes"]) == ("train två", "client 1", 2, 1)
    assert (second["gender"], second["age"], second["accent"]) == ("female_feminine", "twenties", "Göteborg")
    assert second["samples"] == SAMPLE_RATE // 2


@pytest.mark.parametrize("uri", [f"hf://{_FLEURS}?config=sv_se", f"hf://{_VOICES}?config=sv-SE&split=test"])
def test_the_listing_is_the_entries_without_their_recordings(uri: str, reader: Reader) -> None:
    unread = [entry | {"samples": 0} for entry in reader.entries(uri)]
    assert reader.entries(uri, "listing") == unread != []


def test_the_listing_of_parquet_files_leaves_the_recordings_on_the_hub(reader: Reader) -> None:
    reader.hub.sent.clear()
    assert len(reader.entries("hf://org/large", "listing")) == 30
    assert reader.hub.sent["train-0.parquet"] < len(reader.hub.repositories["org/large"].files["train-0.parquet"])


def test_recordings_are_fetched_as_they_are_read_and_not_a_whole_file_ahead(reader: Reader) -> None:
    reader.hub.sent.clear()
    (first,) = reader.entries("hf://org/long", first=1, read=False)
    assert first["fault"] is None
    assert reader.hub.sent["train-0.parquet"] < 0.75 * len(reader.hub.repositories["org/long"].files["train-0.parquet"])


def test_splits_and_columns_can_be_chosen(reader: Reader) -> None:
    chosen = reader.entries(f"hf://{_FLEURS}?config=sv_se&split=test+validation&text=transcription&audio=audio")
    assert [(entry["split"], entry["text"]) for entry in chosen] == [("test", "fem"), ("validation", "fyra")]


def test_a_split_by_another_name_leaves_the_splits_to_be_drawn(reader: Reader) -> None:
    (other, _) = reader.entries(f"hf://{_VOICES}?config=sv-SE&split=other")
    assert (other["location"], other["split"]) == ("sv-SE/other/0", "")
    (one,) = reader.entries("hf://org/one?revision=main")
    assert (one["location"], one["split"]) == ("default/train/0", "train"), "the hub's client calls a lone split train"


def test_a_row_without_its_recording_is_missing_and_the_others_are_read(reader: Reader) -> None:
    named, held, neither = reader.entries("hf://datasets/org/names")
    assert named["fault"] == ["missing", "'default/train/0' has only the name of a recording, and not the recording"]
    assert neither["fault"] == ["missing", "'default/train/2' has no recording"]
    assert held["samples"] == SAMPLE_RATE // 2


def test_a_walk_can_be_left_early(reader: Reader) -> None:
    assert len(reader.entries("hf://org/large", "listing", first=3)) == 3
    assert len(reader.entries(f"hf://{_FLEURS}?config=da_dk", first=1)) == 1


def test_the_licence_is_the_cards_with_the_commit_that_was_read(reader: Reader) -> None:
    assert reader.ask(f"hf://{_FLEURS}?config=sv_se", "licence") == {"licence": f"cc-by-4.0 (commit {COMMIT})"}
    assert reader.ask("hf://org/one", "licence") == {"licence": f"not stated by the source (commit {COMMIT})"}


def test_all_that_is_fetched_is_of_one_commit(reader: Reader) -> None:
    reader.hub.asked.clear()
    reader.entries(f"hf://{_FLEURS}?config=da_dk&split=test")
    fetched = [asked for asked in reader.hub.asked if "/resolve/" in asked or "/tree/" in asked]
    assert fetched
    assert all(COMMIT in asked for asked in fetched)


# ---- what cannot be


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("hf://org/absent", "no such data set, or it is private; check the name, or set HF_TOKEN"),
        ("hf://org/one?revision=v9", "has no such revision"),
        ("hf://org/gated", "is gated; accept its terms on the hub, and set HF_TOKEN"),
        ("hf://org/script", "is made by a script, which is not run"),
        ("hf://org/empty", "cannot be read as a data set"),
        ("hf://org/truncated", "cannot be read as a data set (Parquet magic bytes not found in footer"),
        ("hf://org/lines", "is not made of parquet files; copy it here, and give folder: or manifest:"),
        ("hf://org/folder", "is not made of parquet files; copy it here, and give folder: or manifest:"),
        (f"hf://{_FLEURS}", "da_dk"),
        (f"hf://{_FLEURS}?config=xx_xx", "'xx_xx' not found. Available: ['da_dk', 'sv_se']"),
        (f"hf://{_FLEURS}?config=sv_se&split=dev", "has no split 'dev'; it has train, validation, test"),
        (f"hf://{_FLEURS}?config=sv_se&text=wording", "has the columns id, num_samples, path, audio, transcription"),
    ],
)
def test_what_cannot_be_read_is_said_with_what_to_do(uri: str, sentence: str, reader: Reader) -> None:
    assert sentence in reader.refusal(uri)


def test_a_hub_that_stops_giving_is_a_fault_of_the_storage_and_no_url_is_shown(reader: Reader) -> None:
    message = reader.refusal("hf://org/withdrawn", "StorageError")
    assert "status 403" in message
    assert reader.hub.endpoint not in message


def test_a_gated_data_set_opens_with_the_token_that_may_read_it(hub: Hub, tmp_path: Path) -> None:
    with reading(hub, tmp_path, HF_TOKEN="allowed") as allowed:
        assert [entry["text"] for entry in allowed.entries("hf://org/gated")] == ["Ett!"]


def test_a_hub_out_of_reach_is_said_with_the_alternatives(tmp_path: Path) -> None:
    gone = Hub(endpoint="http://127.0.0.1:9", repositories={})  # the discard port: nobody listens
    with reading(gone, tmp_path) as reader:
        for walk in ("licence", "listing"):
            assert "without internet use parquet: or folder:" in reader.refusal(f"hf://{_FLEURS}", "StorageError", walk)


def test_offline_mode_is_named() -> None:
    with pytest.raises(StorageError, match="HF_HUB_OFFLINE keeps the hub from being asked; unset it"):
        list(HuggingFaceSource(uri="hf://google/fleurs?config=sv_se").listing())


@pytest.mark.parametrize(
    "uri",
    ["hf://", "hf://fleurs", "hf://a/b/c", "hf://../etc", "hf://org/näme", "hf://a/b?splits=train", "hf://a/b?config", "hf://a/b?config="],
)
def test_a_uri_of_another_form_is_refused_before_the_hub_is_asked(uri: str) -> None:
    with pytest.raises(SourceError, match=r"give hf://ORG/NAME\?config=CONFIG&split=train\+test"):
        HuggingFaceSource(uri=uri)
