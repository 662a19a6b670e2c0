"""The page in Chromium, with a microphone that hears a recording: a person speaks, and reads."""

from __future__ import annotations

import base64
import io
import re
import shutil
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import RunningServer, recording
from page_server import Event, Gate, PageServer, events, plain, refused, segment, serving_page, streamed, whole
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Route, expect, sync_playwright
from scripted_server import SPOKEN, TRANSLATED

from avskrift.serving.formats import Format, render
from avskrift.serving.settings import Settings
from avskrift.whisper.transcript import Segment, Transcript

_CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(_CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")

_TONE_HERTZ = 440
_HOSTILE = "<img src=x onerror=\"document.title='broken'\"> & --> </script>"
_SEGMENTS = [
    segment(0, 0.0, 1.0, "Kanariefågeln sjöng."),
    segment(1, 0.9, 2.0, _HOSTILE),
    segment(2, 2.0, 5.0, "Sedan teg den."),
]
_FIRST = _SEGMENTS[:1]

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    heard = tmp_path_factory.mktemp("microphone") / "tone.wav"
    heard.write_bytes(tone(seconds=5))
    with sync_playwright() as playwright:
        microphone = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={heard}"]
        yield playwright.chromium.launch(executable_path=_CHROMIUM, args=[*microphone, "--autoplay-policy=no-user-gesture-required"])


@pytest.fixture(scope="module")
def short_endpoint() -> Iterator[PageServer]:
    """An endpoint that takes two seconds at most, and 200 kB."""
    with serving_page(Settings(max_audio_seconds=2.0, max_upload_mb=0.2)) as server:
        yield server


@pytest.fixture(scope="module")
def shared_endpoint() -> Iterator[PageServer]:
    with serving_page(Settings()) as server:
        yield server


@pytest.fixture
def endpoint(shared_endpoint: PageServer) -> PageServer:
    shared_endpoint.answers.clear()
    shared_endpoint.asked.clear()
    return shared_endpoint


@pytest.fixture
def open_page(browser: Browser, endpoint: PageServer) -> Iterator[OpenPage]:
    """Opens the page; fails in the end if the browser complained of it or if it asked another host for anything."""
    with opened_pages(browser, endpoint.url) as opened:
        yield opened


@contextmanager
def opened_pages(browser: Browser, home: str) -> Iterator[OpenPage]:
    complaints: list[str] = []
    contexts = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:  # a refusal that a test scripted
            complaints.append(message.text)

    def fetch(route: Route) -> None:
        if not route.request.url.startswith(home):
            complaints.append(f"asked {route.request.url}")
        route.continue_()

    def opened(url: str = home, *, locale: str = "en-GB", **options: Any) -> Page:
        context = browser.new_context(locale=locale, permissions=["microphone", "clipboard-read", "clipboard-write"], **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", listen)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.route("**/*", fetch)
        page.goto(url)
        expect(page.locator("#record-label")).not_to_be_empty()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def tone(*, seconds: float) -> bytes:
    """A WAV of 48 kHz, as Chromium's microphone takes it."""
    samples = 0.3 * np.sin(2 * np.pi * _TONE_HERTZ * np.arange(int(48_000 * seconds)) / 48_000)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48_000)
        file.writeframes((32767 * samples).astype("<i2").tobytes())
    return buffer.getvalue()


def choose(page: Page, content: bytes | None = None, name: str = "möte.wav") -> None:
    page.locator("#file").set_input_files(
        {"name": name, "mimeType": "audio/wav", "buffer": tone(seconds=5) if content is None else content}
    )


def status(page: Page) -> Locator:
    return page.get_by_role("status")


def lines(page: Page) -> Locator:
    return page.locator("#segments li p")


def sentences(page: Page, segments: list[Event]) -> None:
    expect(lines(page)).to_have_text([one["text"] for one in segments])


def downloaded(page: Page, name: str) -> tuple[str, str]:
    """The file's name and its text."""
    with page.expect_download() as download:
        page.get_by_role("button", name=f"Download as {name}").click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes().decode()


def as_python_renders(segments: list[Event], fmt: Format) -> str:
    answer = whole(segments)
    heard = tuple(
        Segment(start_s=one["start"], end_s=one["end"], text=one["text"], avg_logprob=0.0, no_speech_prob=0.0) for one in segments
    )
    transcript = Transcript(text=answer["text"], language="sv", duration_s=answer["duration"], segments=heard)
    return str(render(transcript, fmt))


def test_a_person_speaks_and_reads(open_page: OpenPage, endpoint: PageServer) -> None:
    endpoint.answers.append(streamed(_SEGMENTS))
    page = open_page()
    page.get_by_role("button", name="Record").click()
    expect(status(page)).to_have_text("Recording. Speak now.")
    expect(page.locator("#elapsed")).to_have_text("0:01")
    page.get_by_role("button", name="Stop").click()
    sentences(page, _SEGMENTS)
    expect(status(page)).to_have_text("Done.")
    expect(page.locator("#about")).to_have_text(re.compile(r"Swedish · 0:05 · recording-\d{4}-\d\d-\d\d-\d{4}\.wav"))
    expect(page.locator("#segments")).to_have_attribute("lang", "sv")
    (asked,) = endpoint.asked
    assert (asked.route, asked.fields) == ("transcriptions", {"response_format": "verbose_json", "stream": "true"})
    with wave.open(io.BytesIO(asked.file)) as sent:
        assert (sent.getnchannels(), sent.getsampwidth(), sent.getframerate()) == (1, 2, 16_000)
        samples = np.frombuffer(sent.readframes(sent.getnframes()), "<i2")
    assert 1.0 < len(samples) / 16_000 < 5.0
    loudest = np.abs(np.fft.rfft(samples.astype(float))).argmax() * 16_000 / len(samples)
    assert abs(loudest - _TONE_HERTZ) < 5


def test_a_recording_ends_by_itself_when_it_is_as_long_as_the_server_takes(browser: Browser, short_endpoint: PageServer) -> None:
    short_endpoint.answers.append(streamed(_FIRST))
    with opened_pages(browser, short_endpoint.url) as opened:
        page = opened()
        page.get_by_role("button", name="Record").click()
        expect(page.locator("#longest")).to_have_text("of at most 0:02")
        sentences(page, _FIRST)
        assert len(short_endpoint.asked[-1].file) == 44 + 2 * 16_000 * 2
        choose(page, bytes(300_000))
        expect(page.get_by_role("alert")).to_contain_text("too large or too long")
    assert len(short_endpoint.asked) == 1, "what is too large is not sent"


def test_segments_arrive_one_by_one(open_page: OpenPage, endpoint: PageServer) -> None:
    gate = Gate()
    endpoint.answers.append(streamed(_SEGMENTS, gate=gate))
    page = open_page()
    choose(page)
    expect(lines(page)).to_have_count(1)
    expect(status(page)).to_have_text("Listening …")
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    expect(page.get_by_role("progressbar")).to_have_js_property("value", 0.2)
    gate.open()
    sentences(page, _SEGMENTS)
    expect(page.get_by_role("button", name="Cancel")).to_be_hidden()


@pytest.mark.parametrize("way", ["click", "keyboard"])
def test_a_sentence_plays_its_part_of_the_recording_and_no_more(
    open_page: OpenPage, endpoint: PageServer, way: Literal["click", "keyboard"]
) -> None:
    endpoint.answers.append(streamed(_SEGMENTS))
    page = open_page()
    choose(page)
    expect(status(page)).to_have_text("Done.")
    if way == "click":
        lines(page).nth(2).click()
    else:
        page.locator("#segments button").nth(2).focus()
        page.keyboard.press("Enter")
    expect(page.locator("#segments li").nth(2)).to_have_attribute("aria-current", "true")
    assert page.locator("#audio").evaluate("audio => audio.currentTime") >= 2.0
    lines(page).nth(0).click()
    expect(page.locator("#audio")).to_have_js_property("paused", True)
    assert 1.0 <= page.locator("#audio").evaluate("audio => audio.currentTime") < 1.2
    expect(page.locator("[aria-current]")).to_have_count(0)


def test_the_transcript_is_downloaded_as_the_endpoint_itself_would_render_it(open_page: OpenPage, endpoint: PageServer) -> None:
    endpoint.answers.append(streamed(_SEGMENTS))
    page = open_page()
    choose(page)
    expect(status(page)).to_have_text("Done.")
    for name, fmt in (("TXT", "text"), ("SRT", "srt"), ("VTT", "vtt")):
        assert downloaded(page, name) == (f"möte.{name.lower()}", as_python_renders(_SEGMENTS, fmt))


def test_subtitles_follow_the_endpoints_rules_whatever_the_segments_are(open_page: OpenPage) -> None:
    page = open_page()
    draw = np.random.default_rng(7)
    texts = [
        " a  b ",
        "\u00a0x\x1fy\x85z",
        "a\r\n\r\nb",
        "---->",
        "\x00\x07 c \x00",
        "<v Fred>&amp;",
        "\ufeffå",
        " \t ",
        "",
        "𝔘\u2028d\u3000",
    ]
    for _ in range(100):
        count = int(draw.integers(1, 8))
        segments = [
            segment(number, round(float(draw.uniform(-1, 4)), 3), round(float(draw.uniform(-1, 5000)), 3), str(draw.choice(texts)))
            for number in range(count)
        ]
        segments[-1]["end"] = abs(segments[-1]["end"])
        for ending, fmt in (("srt", "srt"), ("vtt", "vtt"), ("txt", "text")):
            script = "async ([ending, answer]) => (await import('/page/subtitles.js')).FORMATS[ending].render(answer)"
            assert page.evaluate(script, [ending, whole(segments)]) == as_python_renders(segments, fmt)  # type: ignore[arg-type]


def test_all_of_the_text_is_copied(open_page: OpenPage, endpoint: PageServer) -> None:
    endpoint.answers.append(streamed(_SEGMENTS))
    page = open_page()
    choose(page)
    expect(status(page)).to_have_text("Done.")
    page.get_by_role("button", name="Copy all").click()
    expect(status(page)).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == whole(_SEGMENTS)["text"]


def test_a_file_is_dropped_on_the_page(open_page: OpenPage, endpoint: PageServer) -> None:
    endpoint.answers.append(streamed(_SEGMENTS))
    page = open_page()
    content = recording(1.5)
    make = """encoded => {
        const files = new DataTransfer();
        files.items.add(new File([Uint8Array.from(atob(encoded), one => one.charCodeAt(0))], "släppt.flac"));
        return files;
    }"""
    dropped = page.evaluate_handle(make, base64.b64encode(content).decode())
    page.dispatch_event("body", "dragover", {"dataTransfer": dropped})
    expect(page.locator("#source.over")).to_be_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": dropped})
    sentences(page, _SEGMENTS)
    assert (endpoint.asked[0].file_name, endpoint.asked[0].file) == ("släppt.flac", content)


def test_language_and_task_are_sent_and_a_translation_takes_no_language(open_page: OpenPage, endpoint: PageServer) -> None:
    endpoint.answers += [streamed(_FIRST), streamed(_FIRST)]
    page = open_page()
    language = page.get_by_label("Spoken language")
    assert language.locator("option").count() == 101
    language.select_option("Swedish")
    choose(page)
    expect(status(page)).to_have_text("Done.")
    page.get_by_label("Write down").select_option("An English translation")
    expect(language).to_be_disabled()
    page.get_by_role("button", name="Transcribe again").click()
    expect(page.get_by_role("heading", name="Translation")).to_be_visible()
    expect(page.locator("#segments")).to_have_attribute("lang", "en")
    first, second = endpoint.asked
    assert (first.route, first.fields["language"]) == ("transcriptions", "sv")
    assert (second.route, "language" in second.fields, second.file) == ("translations", False, first.file)


@pytest.mark.parametrize("busy", [429, 503])
def test_a_busy_server_is_asked_again_after_the_time_that_it_told(open_page: OpenPage, endpoint: PageServer, busy: int) -> None:
    endpoint.answers += [refused(busy, retry_after="2"), streamed(_SEGMENTS)]
    page = open_page()
    choose(page)
    expect(status(page)).to_have_text("The server is busy. Attempt 1 of 5 follows in")
    expect(page.get_by_role("timer")).to_have_text("2 s")
    expect(page.get_by_role("timer")).to_have_text("1 s")
    sentences(page, _SEGMENTS)
    expect(page.get_by_role("timer")).to_be_empty()
    assert len(endpoint.asked) == 2


def test_a_server_that_stays_busy_is_asked_five_times_more(open_page: OpenPage, endpoint: PageServer) -> None:
    endpoint.answers += [refused(429, retry_after="0")] * 6
    page = open_page()
    choose(page)
    expect(page.get_by_role("alert")).to_contain_text("still busy")
    assert len(endpoint.asked) == 6
    endpoint.answers.append(streamed(_FIRST))
    page.get_by_role("button", name="Transcribe again").click()
    sentences(page, _FIRST)
    expect(page.get_by_role("alert")).to_be_empty()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (413, "too large or too long"),
        (415, "no recording that the server can read"),
        (422, "empty, damaged or cut short"),
        (503, "still busy"),
        (400, "refused the request (400)"),
        (500, "The server failed"),
    ],
)
def test_a_refusal_is_told_in_words_with_what_the_server_said(open_page: OpenPage, endpoint: PageServer, code: int, words: str) -> None:
    endpoint.answers.append(refused(code, "<b>because</b>"))
    page = open_page()
    choose(page)
    expect(page.get_by_role("alert")).to_contain_text(words)
    expect(page.get_by_role("alert")).to_contain_text("<b>because</b>")
    expect(status(page)).to_be_empty()


def test_a_server_that_is_gone_is_told_in_words(open_page: OpenPage) -> None:
    page = open_page()
    page.context.set_offline(True)
    choose(page)
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")


def test_a_failure_in_the_middle_keeps_what_had_arrived(open_page: OpenPage, endpoint: PageServer) -> None:
    first = {"type": "transcript.text.segment", **_SEGMENTS[0]}
    endpoint.answers += [events(first, {"type": "error", "error": {"message": "it broke"}}), events(first)]
    page = open_page()
    for words in ("it broke", "The answer ended too early"):
        choose(page)
        expect(page.get_by_role("alert")).to_contain_text(words)
        sentences(page, _FIRST)
        page.get_by_role("button", name="Copy all").click()
        assert page.evaluate("navigator.clipboard.readText()") == _FIRST[0]["text"]


def test_a_request_is_cancelled(open_page: OpenPage, endpoint: PageServer) -> None:
    endpoint.answers.append(streamed(_SEGMENTS, gate=Gate()))
    page = open_page()
    choose(page)
    sentences(page, _FIRST)
    with page.expect_event("requestfailed"):
        page.get_by_role("button", name="Cancel").click()
    expect(status(page)).to_have_text("Cancelled.")
    expect(page.get_by_role("heading", name="Transcript")).to_be_focused()
    sentences(page, _FIRST)


def test_waiting_for_a_busy_server_is_cancelled(open_page: OpenPage, endpoint: PageServer) -> None:
    endpoint.answers.append(refused(429, retry_after="30"))
    page = open_page()
    choose(page)
    expect(page.get_by_role("timer")).to_have_text("30 s")
    page.get_by_role("button", name="Cancel").click()
    expect(status(page)).to_have_text("Cancelled.")
    expect(page.get_by_role("timer")).to_be_empty()


def test_a_new_recording_takes_the_place_of_a_request(open_page: OpenPage, endpoint: PageServer) -> None:
    endpoint.answers += [streamed(_SEGMENTS, gate=Gate()), streamed(_SEGMENTS[2:])]
    page = open_page()
    choose(page)
    sentences(page, _FIRST)
    with page.expect_event("requestfailed"):
        page.get_by_role("button", name="Record").click()
    expect(page.locator("#elapsed")).to_have_text("0:01")
    expect(page.get_by_role("button", name="Transcribe again")).to_be_hidden()
    expect(page.get_by_role("button", name="Cancel")).to_be_hidden()
    page.get_by_role("button", name="Stop").click()
    sentences(page, _SEGMENTS[2:])
    expect(page.get_by_role("button", name="Transcribe again")).to_be_visible()


def test_an_answer_without_streaming_is_shown_at_once(open_page: OpenPage, endpoint: PageServer) -> None:
    endpoint.answers += [plain(whole(_SEGMENTS)), plain({"text": "Bara text.", "language": "swedish", "duration": 2.0})]
    page = open_page()
    choose(page)
    sentences(page, _SEGMENTS)
    choose(page)
    expect(lines(page)).to_have_text(["Bara text."])


def test_silence_is_told(open_page: OpenPage, endpoint: PageServer) -> None:
    endpoint.answers.append(events({"type": "transcript.text.done", "text": "", "language": "swedish", "duration": 2.0, "segments": []}))
    page = open_page()
    choose(page)
    expect(status(page)).to_have_text("No speech was heard.")


def test_what_was_said_is_never_markup(open_page: OpenPage, endpoint: PageServer) -> None:
    endpoint.answers.append(streamed([segment(0, 0.0, 2.0, _HOSTILE)], language=_HOSTILE))
    page = open_page()
    choose(page, name=f"{_HOSTILE.replace('/', '')}.wav")
    expect(lines(page)).to_have_text([_HOSTILE])
    assert page.locator("img").count() == 0
    assert page.title() == "Avskrift"


def test_the_interface_speaks_the_browsers_language(open_page: OpenPage) -> None:
    for locale, language, record in (("sv-SE", "sv", "Spela in"), ("en-US", "en", "Record"), ("ja-JP", "en", "Record")):
        page = open_page(locale=locale)
        expect(page.locator("html")).to_have_attribute("lang", language)
        expect(page.get_by_role("button", name=record)).to_be_visible()


def test_a_refusal_and_a_transcript_in_swedish(open_page: OpenPage, endpoint: PageServer) -> None:
    endpoint.answers += [refused(415), streamed(_SEGMENTS)]
    page = open_page(locale="sv-SE")
    choose(page)
    expect(page.get_by_role("alert")).to_contain_text("ingen inspelning som servern kan läsa")
    choose(page)
    expect(status(page)).to_have_text("Klart.")
    expect(page.locator("#about")).to_have_text("Svenska · 0:05 · möte.wav")


def test_a_microphone_that_is_refused_is_told_in_words(open_page: OpenPage) -> None:
    page = open_page()
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError'); }; }")
    page.get_by_role("button", name="Record").click()
    expect(page.get_by_role("alert")).to_contain_text("may not use the microphone")
    expect(page.get_by_role("button", name="Record")).to_be_visible()


def test_the_keyboard_alone_records_reads_plays_and_downloads(open_page: OpenPage, endpoint: PageServer) -> None:
    endpoint.answers.append(streamed(_SEGMENTS))
    page = open_page()
    press = page.keyboard.press
    press("Tab")
    expect(page.get_by_role("button", name="Record")).to_be_focused()
    press("Enter")
    expect(page.locator("#elapsed")).to_have_text("0:01")
    expect(page.get_by_role("button", name="Stop")).to_be_focused()
    press("Enter")
    sentences(page, _SEGMENTS)
    for expected in ("file", "task", "language", "again", "copy"):
        press("Tab")
        assert page.evaluate("document.activeElement.id") == expected
    press("Space")
    expect(status(page)).to_have_text("Copied.")
    press("Tab")
    with page.expect_download():
        press("Enter")
    while page.evaluate("document.activeElement.closest('#segments') === null"):
        press("Tab")
    press("Space")
    expect(page.locator("#segments li").nth(0)).to_have_attribute("aria-current", "true")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_serious(open_page: OpenPage, endpoint: PageServer, scheme: str, width: int) -> None:
    gate = Gate()
    endpoint.answers += [streamed(_SEGMENTS, gate=gate), refused(415, "no recording")]
    page = open_page(locale="sv-SE", color_scheme=scheme, viewport={"width": width, "height": 844}, reduced_motion="reduce")
    assert_accessible(page)
    page.get_by_role("button", name="Spela in").click()
    expect(page.locator("#elapsed")).to_have_text("0:01")
    assert_accessible(page)
    page.get_by_role("button", name="Stoppa").click()
    expect(lines(page)).to_have_count(1)
    assert_accessible(page)
    gate.open()
    expect(status(page)).to_have_text("Klart.")
    lines(page).nth(1).click()
    assert_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    choose(page)
    expect(page.get_by_role("alert")).not_to_be_empty()
    assert_accessible(page)


def assert_accessible(page: Page) -> None:
    violations = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in violations if one["impact"] in ("serious", "critical")] == []


def test_the_real_server_is_spoken_to_and_read(browser: Browser, server: RunningServer) -> None:
    with opened_pages(browser, f"http://127.0.0.1:{server.port}/") as opened:
        page = opened()
        choose(page, recording(1.5), "inspelning.flac")
        expect(lines(page)).to_have_text([SPOKEN[:14].strip(), SPOKEN[14:]])
        expect(status(page)).to_have_text("Done.")
        page.get_by_label("Write down").select_option("An English translation")
        page.get_by_role("button", name="Transcribe again").click()
        expect(page.get_by_role("heading", name="Translation")).to_be_visible()
        expect(status(page)).to_have_text("Done.")
        assert downloaded(page, "TXT") == ("inspelning.txt", f"{TRANSLATED}\n")
        choose(page, b"no sound", "text.wav")
        expect(page.get_by_role("alert")).to_contain_text("no recording that the server can read")
