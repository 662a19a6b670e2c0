"""docs/endpoint.md: every block runs as written, and OpenAI's client gets every format."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import openai
import pytest
import soxr
from conftest import RunningServer, recording, started
from scripted_server import SPOKEN, TRANSLATED

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.audio.decode import encode_flac
from avskrift.corpus.demo.espeak import ESPEAK_RATE, say
from avskrift.serving.grpc_server import status_code

_PAGE = (Path(__file__).parents[2] / "docs" / "endpoint.md").read_text(encoding="utf-8")
_BLOCKS = re.findall(r"<!-- run; prints ([^\n]*) -->\n```(\w+)\n(.*?)```\n", _PAGE, flags=re.DOTALL)
_HTTP, _GRPC = "127.0.0.1:8085", "127.0.0.1:8086"
_COMMANDS = Path(sys.executable).parent  # where the environment that runs the tests has its `avskrift`


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A server, a recording for it, and what it may say of that: times change a model's text a little."""

    server: RunningServer
    recording: bytes
    transcripts: frozenset[str]
    translations: frozenset[str]


@pytest.fixture(scope="module", params=["scripted", pytest.param("whisper-base", marks=pytest.mark.weights)])
def endpoint(request: pytest.FixtureRequest, server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    if request.param == "scripted":
        yield _endpoint(server, recording(1.5))
        return
    home: Path = request.getfixturevalue("shared_home")
    speech: bytes = request.getfixturevalue("spoken")
    command = [str(_COMMANDS / "avskrift"), "serve", "--package", "package:whisper-base", "--port", "0", "--grpc-port", "0"]
    log = tmp_path_factory.mktemp("endpoint") / "server.log"
    with started(command, log, AVSKRIFT_HOME=str(home)) as served:
        yield _endpoint(served, speech)


@pytest.fixture(scope="module")
def spoken() -> bytes:
    """A Swedish sentence by eSpeak."""
    sound = say("Kanariefågeln sjöng hela morgonen och teg på kvällen.", language="sv", variant="m3", rate=140, pitch=50, seed=1)
    return encode_flac(soxr.resample(sound.astype(np.float64) / 32768, ESPEAK_RATE, SAMPLE_RATE).astype(np.float32))


def _endpoint(server: RunningServer, data: bytes) -> Endpoint:
    def said(route: str, **fields: str) -> frozenset[str]:
        texts = set()
        for fmt in ("json", "verbose_json"):
            form = fields | {"response_format": fmt}
            answer = server.client.post(f"/openai/v1/audio/{route}", files={"file": ("a.flac", data)}, data=form)
            texts.add(str(answer.json()["text"]))
        return frozenset(texts)

    transcripts, translations = said("transcriptions", language="sv"), said("translations")
    assert all(transcripts | translations)
    return Endpoint(server=server, recording=data, transcripts=transcripts, translations=translations)


@pytest.mark.parametrize(("prints", "language", "code"), _BLOCKS, ids=lambda value: value if len(value) < 50 else "")
def test_a_block_runs_as_written_and_prints_what_it_says(endpoint: Endpoint, prints: str, language: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "recording.flac").write_bytes(endpoint.recording)
    assert _HTTP in code or _GRPC in code
    here = code.replace(_HTTP, f"127.0.0.1:{endpoint.server.port}").replace(_GRPC, f"127.0.0.1:{endpoint.server.grpc_port}")
    command = ["bash", "-euo", "pipefail", "-c", here] if language == "bash" else [sys.executable, "-c", here]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    expected = [{name} for name in re.findall(r'"(\w+)"', prints)]
    expected += [set(endpoint.transcripts)] if "the transcript" in prints else []
    expected += [set(endpoint.translations)] if "the translation" in prints else []
    assert expected
    for possible in expected:
        assert any(one in done.stdout for one in possible), done.stdout


def test_every_block_but_the_one_that_starts_the_server_is_run() -> None:
    assert _PAGE.count("\n```") == 2 * (len(_BLOCKS) + 1)


def test_the_page_says_which_status_becomes_which() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \| ([A-Z_]+) \|", _PAGE, flags=re.MULTILINE)
    assert len(rows) == 9
    for statuses, code in rows:
        assert {status_code(int(status)).name for status in statuses.split(", ")} == {code}


@pytest.fixture
def client(server: RunningServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/openai/v1", api_key="none", max_retries=0)


FILE = ("a.flac", recording(1.5))


def test_openais_client_reads_json(client: openai.OpenAI) -> None:
    assert client.audio.transcriptions.create(model="whisper-1", file=FILE).text == SPOKEN
    assert client.audio.transcriptions.create(model="avskrift", file=FILE, response_format="json", prompt="Förr:").text == f"Förr:{SPOKEN}"


def test_openais_client_reads_text_and_subtitles(client: openai.OpenAI) -> None:
    heard = {
        fmt: str(client.audio.transcriptions.create(model="whisper-1", file=FILE, response_format=fmt)) for fmt in ("text", "srt", "vtt")
    }
    assert heard["text"] == f"{SPOKEN}\n"
    assert heard["srt"].startswith("1\n00:00:00,000 --> 00:00:00,750\n")
    assert heard["vtt"].startswith("WEBVTT\n\n00:00:00.000 --> 00:00:00.750\n")


def test_openais_client_reads_segments_and_words(client: openai.OpenAI) -> None:
    heard = client.audio.transcriptions.create(
        model="whisper-1",
        file=FILE,
        response_format="verbose_json",
        timestamp_granularities=["segment", "word"],
        temperature=0,
        language="sv",
    )
    assert (heard.text, heard.language, float(heard.duration)) == (SPOKEN, "swedish", 1.5)
    assert [segment.id for segment in heard.segments or []] == [0, 1]
    assert "".join(word.word for word in heard.words or []).startswith("Kanariefågeln")


@pytest.mark.parametrize("fmt", ["json", "text", "srt", "vtt", "verbose_json"])
def test_openais_client_reads_translations(client: openai.OpenAI, fmt: Literal["json", "text", "srt", "vtt", "verbose_json"]) -> None:
    heard = client.audio.translations.create(model="whisper-1", file=FILE, response_format=fmt)
    text = heard if isinstance(heard, str) else heard.text
    assert TRANSLATED.split()[0] in text
    assert isinstance(heard, str) == (fmt in ("text", "srt", "vtt"))


def test_openais_client_streams(client: openai.OpenAI) -> None:
    events = list(client.audio.transcriptions.create(model="whisper-1", file=FILE, stream=True))
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta") == SPOKEN
    assert [event.text for event in events if event.type == "transcript.text.done"] == [SPOKEN]


def test_openais_client_lists_the_model(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["avskrift"]


def test_openais_client_retrieves_the_model_by_its_name_and_by_openais(client: openai.OpenAI, server: RunningServer) -> None:
    (listed,) = client.models.list()
    assert client.models.retrieve("avskrift") == listed
    alias = client.models.retrieve("whisper-1")
    assert (alias.id, alias.to_dict()["sha256"]) == ("whisper-1", listed.to_dict()["sha256"])
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("gpt-4o")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")


def test_openais_client_raises_its_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.audio.transcriptions.create(model="gpt-4o", file=FILE)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.UnprocessableEntityError):
        client.audio.transcriptions.create(model="whisper-1", file=("a.flac", b""))
    with pytest.raises(openai.BadRequestError):
        client.audio.transcriptions.create(model="whisper-1", file=FILE, temperature=0.5)
