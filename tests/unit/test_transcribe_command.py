"""``avskrift transcribe`` through an endpoint: many recordings, transcripts in a folder, and an endpoint that is busy or gone."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from scripted_endpoint import CUT_SHORT, HANG, RESET, Says, ScriptedEndpoint, scripted_endpoint

from avskrift.deployment.client import Question
from avskrift.deployment.patience import PatientEndpoint
from avskrift.errors import AvskriftError, EndpointError, SourceError, StorageError, UsageError
from avskrift_pipelines.command.transcribing import transcribe

PATIENCE_SECONDS = 60
REFUSAL = Says(415, json.dumps({"error": {"message": "the recording is not audio that can be read"}}))


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with scripted_endpoint() as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three recordings, one of them in a folder below, and what is none."""
    folder = tmp_path / "recordings"
    (folder / "monday").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name in ("a.wav", "b.MP3", "monday/a.wav", ".c.wav", ".hidden/d.wav", "notes.txt"):
        (folder / name).write_text(name)
    return folder


def written(out: Path) -> dict[str, str]:
    return {str(path.relative_to(out)): path.read_text(encoding="utf-8") for path in sorted(out.rglob("*")) if path.is_file()}


TRANSCRIPTS = {"a.wav.txt": "a.wav\n", "b.MP3.txt": "b.MP3\n", "monday/a.wav.txt": "monday/a.wav\n"}


def test_a_folder_of_recordings_becomes_a_folder_of_transcripts(endpoint: ScriptedEndpoint, folder: Path, tmp_path: Path) -> None:
    transcribe([folder], endpoint=endpoint.url, out=tmp_path / "out")
    assert written(tmp_path / "out") == TRANSCRIPTS


def test_a_second_run_does_what_is_missing_and_again_does_all(
    endpoint: ScriptedEndpoint, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    transcribe([folder], endpoint=endpoint.url, out=out)
    (out / "a.wav.txt").unlink()
    endpoint.asked.clear()
    capsys.readouterr()
    transcribe([folder], endpoint=endpoint.url, out=out)
    assert [recording for _, _, recording in endpoint.asked] == [b"a.wav"]
    assert "2 of 3 were there already; --again transcribes them too" in capsys.readouterr().err
    transcribe([folder], endpoint=endpoint.url, out=out, again=True)
    assert len(endpoint.asked) == 4
    assert written(out) == TRANSCRIPTS


def test_another_format_is_another_transcript(endpoint: ScriptedEndpoint, folder: Path, tmp_path: Path) -> None:
    for format_ in ("text", "srt", "vtt", "json", "verbose_json"):
        transcribe([folder / "a.wav"], endpoint=endpoint.url, out=tmp_path / "out", format_=format_)
    assert list(written(tmp_path / "out")) == ["a.wav.json", "a.wav.srt", "a.wav.txt", "a.wav.verbose.json", "a.wav.vtt"]
    assert [fields["response_format"] for _, fields, _ in endpoint.asked] == ["text", "srt", "vtt", "json", "verbose_json"]


def test_no_more_are_asked_at_once_than_jobs_say(endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number}.wav").write_text(f"recording {number}")
    transcribe([tmp_path], endpoint=endpoint.url, out=tmp_path / "out", jobs=3)
    assert len(endpoint.asked) == 12
    assert endpoint.at_once <= 3


def test_what_is_asked_reaches_the_endpoint(endpoint: ScriptedEndpoint, folder: Path) -> None:
    transcribe([folder / "a.wav"], endpoint=endpoint.url, language="swedish", prompt="Åsa, Örjan", format_="json", service_name="mine")
    transcribe([folder / "b.MP3"], endpoint=f"{endpoint.url}/", task="translate")
    (first, fields, _), (second, translated, _) = endpoint.asked
    assert first == "/openai/v1/audio/transcriptions"
    assert fields == {"model": "mine", "response_format": "json", "language": "sv", "prompt": "Åsa, Örjan"}
    assert second == "/openai/v1/audio/translations"
    assert translated == {"model": "avskrift", "response_format": "text"}


def test_a_token_is_shown_to_the_gateway_and_to_nobody_else(
    endpoint: ScriptedEndpoint, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.script[b"a.wav"] = [Says(403, json.dumps({"error": {"message": "no"}}))]
    with pytest.raises(EndpointError, match="403 Forbidden: no; a token that it takes goes into AVSKRIFT_ENDPOINT_TOKEN") as failure:
        transcribe([folder / "a.wav"], endpoint=endpoint.url, token="key-of-canary\n")
    transcribe([folder / "b.MP3"], endpoint=endpoint.url)
    assert endpoint.shown == ["Bearer key-of-canary", ""]
    assert "canary" not in f"{failure.value}{capsys.readouterr()}"


def test_without_a_folder_texts_are_printed_in_the_order_of_the_files(
    endpoint: ScriptedEndpoint, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.script[b"a.wav"] = [Says(503, headers={"Retry-After": "1"}), Says(body="first")]
    transcribe([folder / "a.wav", folder / "b.MP3"], endpoint=endpoint.url)
    said = capsys.readouterr()
    assert said.out == "first\nb.MP3\n"
    assert said.err == f"{folder / 'a.wav'}:\n{folder / 'b.MP3'}:\n"


def test_one_file_is_printed_alone(endpoint: ScriptedEndpoint, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transcribe([folder / "a.wav"], endpoint=endpoint.url)
    assert capsys.readouterr() == ("a.wav\n", "")


def test_a_recording_that_fails_stops_no_other_and_is_named_at_the_end(endpoint: ScriptedEndpoint, folder: Path, tmp_path: Path) -> None:
    endpoint.script[b"a.wav"] = [REFUSAL]
    with pytest.raises(EndpointError) as failure:
        transcribe([folder], endpoint=endpoint.url, out=tmp_path / "out")
    first, second = str(failure.value).splitlines()
    assert first == "1 of 3 recordings were not transcribed:"
    assert second.startswith(f"  {folder / 'a.wav'}: {endpoint.url} answered a transcription with 415 Unsupported Media Type")
    assert second.endswith("the recording is not audio that can be read")
    assert endpoint.times(b"a.wav") == 1, "asking again would not help"
    assert sorted(written(tmp_path / "out")) == ["b.MP3.txt", "monday/a.wav.txt"]


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 500])
def test_what_asking_again_does_not_change_is_asked_once(endpoint: ScriptedEndpoint, folder: Path, status: int) -> None:
    endpoint.script[b"a.wav"] = [Says(status, "no JSON")]
    with pytest.raises(EndpointError, match=rf"a\.wav: .* answered a transcription with {status}"):
        transcribe([folder / "a.wav"], endpoint=endpoint.url)
    assert len(endpoint.asked) == 1


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("retry_after", "low", "high"), [("7", 7, 8.75), ("0", 0.5, 0.625), ("", 0.5, 0.625), ("soon", 0.5, 0.625)])
def test_a_busy_endpoint_is_asked_again_when_it_says(
    endpoint: ScriptedEndpoint, folder: Path, status: int, retry_after: str, low: float, high: float
) -> None:
    waits: list[float] = []
    endpoint.script[b"a.wav"] = [Says(status, headers={"Retry-After": retry_after}), Says(body="now")]
    patient = PatientEndpoint(endpoint.url, sleep=waits.append)
    assert patient.ask(folder / "a.wav", Question(model="avskrift")) == "now"
    (wait,) = waits
    assert low <= wait <= high


@pytest.mark.parametrize("status", [429, 503])
def test_an_endpoint_that_asks_for_an_hour_is_given_up(endpoint: ScriptedEndpoint, folder: Path, status: int) -> None:
    endpoint.script[b"a.wav"] = [Says(status, headers={"Retry-After": in_seconds(3000)})]
    waits: list[float] = []
    with pytest.raises(EndpointError, match="for 10 minutes; try again later"):
        PatientEndpoint(endpoint.url, sleep=waits.append).ask(folder / "a.wav", Question(model="avskrift"))
    assert waits == []


def test_a_date_is_waited_for(endpoint: ScriptedEndpoint, folder: Path) -> None:
    waits: list[float] = []
    endpoint.script[b"a.wav"] = [Says(503, headers={"Retry-After": in_seconds(60)}), Says(body="now")]
    PatientEndpoint(endpoint.url, sleep=waits.append).ask(folder / "a.wav", Question(model="avskrift"))
    assert 30 < waits[0] < 76


def test_an_endpoint_that_stays_busy_is_given_up_after_ten_minutes(endpoint: ScriptedEndpoint, folder: Path) -> None:
    waits: list[float] = []
    endpoint.script[b"a.wav"] = [Says(429)]
    with pytest.raises(EndpointError, match=r"429 Too Many Requests.*for 10 minutes"):
        PatientEndpoint(endpoint.url, sleep=waits.append).ask(folder / "a.wav", Question(model="avskrift"))
    assert 500 < sum(waits) <= 600
    assert waits == sorted(waits[:7]) + waits[7:], "longer each time at first"


@pytest.mark.parametrize("loss", [RESET, CUT_SHORT])
def test_a_lost_connection_is_tried_again(endpoint: ScriptedEndpoint, folder: Path, loss: str) -> None:
    waits: list[float] = []
    endpoint.script[b"a.wav"] = [Says(body="half of it", instead=loss), Says(body="half", instead=loss), Says(body="all of it")]
    assert PatientEndpoint(endpoint.url, sleep=waits.append).ask(folder / "a.wav", Question(model="avskrift")) == "all of it"
    assert len(waits) == 2


def test_an_endpoint_that_is_gone_costs_the_first_recording_five_tries_and_the_others_one(folder: Path) -> None:
    waits: list[float] = []
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    patient = PatientEndpoint(url, sleep=waits.append)
    for expected in (4, 4):
        with pytest.raises(EndpointError, match=r"did not answer a transcription .*refused.* see `avskrift status`"):
            patient.ask(folder / "a.wav", Question(model="avskrift"))
        assert len(waits) == expected


def test_an_endpoint_that_refuses_while_it_is_sent_to_is_heard(folder: Path) -> None:
    """As one does that has read the length in the header."""
    (folder / "large.wav").write_bytes(bytes(30 << 20))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                connection.shutdown(socket.SHUT_WR)
                time.sleep(0.2)

        threading.Thread(target=refuse, daemon=True).start()
        with pytest.raises(EndpointError, match="answered a transcription with 413"):
            transcribe([folder / "large.wav"], endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}")


@pytest.mark.parametrize(
    ("given", "options", "kind", "words"),
    [
        (["missing.wav"], {}, UsageError, r"missing\.wav: no such file"),
        (["recordings/.hidden"], {}, None, ""),
        (["empty"], {}, UsageError, r"empty: holds no recordings \(\.flac, "),
        (["recordings/a.wav"], {"task": "sing"}, UsageError, "no task 'sing'; use --task transcribe or translate"),
        (["recordings/a.wav"], {"task": "translate", "language": "sv"}, UsageError, "takes no --language through an endpoint"),
        (["recordings/a.wav"], {"format_": "pdf"}, UsageError, "no transcript format 'pdf'"),
        (["recordings/a.wav"], {"language": "swedisch"}, AvskriftError, "swedisch"),
        (["recordings/a.wav"], {"again": True}, UsageError, "--again is about the transcripts in a folder"),
        (["recordings/a.wav"], {"endpoint": "localhost:8085"}, EndpointError, "is not a URL of an endpoint"),
        (["recordings/a.wav"], {"endpoint": "http://host:port"}, EndpointError, "is not a URL of an endpoint"),
        (["recordings/a.wav"], {"token": "två ord"}, UsageError, "--token or AVSKRIFT_ENDPOINT_TOKEN holds no token: (?!.*två)"),
        (["recordings/a.wav"], {"out": "recordings/notes.txt"}, StorageError, r"notes\.txt"),
        (["recordings/a.wav", "recordings/monday/a.wav"], {"out": "out"}, UsageError, r"would both be written as a\.wav"),
    ],
)
def test_bad_input_is_one_sentence_before_anything_is_sent(
    endpoint: ScriptedEndpoint,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: list[str],
    options: dict[str, object],
    kind: type[AvskriftError] | None,
    words: str,
) -> None:
    monkeypatch.chdir(folder.parent)
    Path("empty").mkdir()
    if "out" in options:
        options = options | {"out": Path(str(options["out"]))}
    arguments = {"endpoint": endpoint.url} | options
    if kind is None:  # a folder that is named is wanted, hidden or not
        transcribe([Path(one) for one in given], **arguments)  # type: ignore[arg-type]
        return
    with pytest.raises(kind, match=words):
        transcribe([Path(one) for one in given], **arguments)  # type: ignore[arg-type]
    assert endpoint.asked == []


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_done(endpoint: ScriptedEndpoint, folder: Path, tmp_path: Path) -> None:
    class Unreadable(type(Path())):  # type: ignore[misc]  # root, who runs tests, may read everything
        def open(self, *arguments: object, **named: object) -> object:
            raise PermissionError(13, "Permission denied")

    with pytest.raises(SourceError, match=r"a\.wav: it cannot be read \(Permission denied\)"):
        transcribe([Unreadable(folder / "a.wav"), folder / "b.MP3"], endpoint=endpoint.url, out=tmp_path / "out")
    assert list(written(tmp_path / "out")) == ["b.MP3.txt"]


@pytest.mark.parametrize("out", [True, False], ids=["into a folder", "printed"])
def test_ctrl_c_stops_at_once_and_leaves_whole_transcripts_alone(
    endpoint: ScriptedEndpoint, folder: Path, tmp_path: Path, out: bool
) -> None:
    endpoint.script[b"b.MP3"] = [Says(instead=HANG)]
    endpoint.script[b"monday/a.wav"] = [Says(429, headers={"Retry-After": "300"})]
    where = ["--out", str(tmp_path / "out")] if out else []
    command = [str(Path(sys.executable).parent / "avskrift"), "transcribe", str(folder), "--endpoint", endpoint.url, *where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while (len(endpoint.asked) < 3 or (out and not written(tmp_path / "out"))) and time.monotonic() < deadline:
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=PATIENCE_SECONDS / 3)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "stopped before it was finished" in err
    assert "Traceback" not in err
    if out:
        assert written(tmp_path / "out") == {"a.wav.txt": "a.wav\n"}
