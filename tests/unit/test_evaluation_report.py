"""The report, read back as a browser would: from its golden inputs, with one thing changed."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from avskrift.evaluation.clip_results import ClipResult, read_clip_results
from avskrift.evaluation.report import render_report
from avskrift.evaluation.result import Estimate, read_evaluation

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation"
EVALUATION, CLIPS = read_evaluation(GOLDEN), read_clip_results(GOLDEN)
VOID = {"meta"}


class Page(HTMLParser):
    """Tags, attributes, the rows of its tables under their headings, and whether every tag is closed in order."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._open: list[str] = []
        self._heading = ""
        self.feed(document)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self._open.append(tag)
        if tag == "h2":
            self._heading = ""
        if tag == "tr":
            self.tables.setdefault(self._heading, []).append([])
        if tag in ("td", "th"):
            self.tables[self._heading][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "h2" in self._open:
            self._heading += data
        if "td" in self._open or "th" in self._open:
            self.tables[self._heading][-1][-1] += data


def page(clips: list[ClipResult] = CLIPS, **changes: object) -> Page:
    return Page(render_report(replace(EVALUATION, **changes), clips))


def clip(number: int, before: int, after: int, *, words: int = 10, duration_s: float = 3.0) -> ClipResult:
    return ClipResult(
        clip_id=f"clip-{number:02}",
        duration_s=duration_s,
        reference="ett",
        baseline="två",
        candidate="tre",
        reference_words=words,
        baseline_errors=before,
        candidate_errors=after,
        baseline_wer=before / words if words else None,
        candidate_wer=after / words if words else None,
    )


def named(rows: list[list[str]]) -> list[str]:
    return [row[-1] for row in rows[1:]]


def test_the_report_has_no_scripts_fetches_nothing_and_forbids_both() -> None:
    document = render_report(EVALUATION, CLIPS)
    read = Page(document)
    assert not read.tags & {"script", "link", "img", "iframe", "object", "embed", "form", "a", "base"}
    assert not {name for name in read.attributes if name.startswith("on") or name in ("src", "href", "style", "srcdoc")}
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'\"" in document
    assert "url(" not in document
    assert "@import" not in document


def test_the_report_follows_the_readers_light_or_dark() -> None:
    document = render_report(EVALUATION, CLIPS)
    assert "prefers-color-scheme: dark" in document
    assert "color-scheme: light dark" in document


def test_a_transcript_that_is_markup_is_shown_and_not_run() -> None:
    hostile = "</td></table><script>alert(1)</script><img src=x onerror=alert(1)>"
    read = page([replace(CLIPS[0], candidate=hostile, candidate_errors=9)])
    assert not read.tags & {"script", "img"}
    assert read.tables["Most errors left"][1][2] == hostile


@pytest.mark.parametrize("field", ["language", "split", "engine", "normaliser", "resampled", "dataset_fingerprint"])
def test_every_string_of_the_evaluation_is_escaped(field: str) -> None:
    read = page(**{field: '"><script>x</script>&amp;'})
    assert "script" not in read.tags
    assert "<script>x</script>&amp;".lower() in read.text.lower()


def test_uris_and_clip_ids_are_escaped() -> None:
    hostile = "<script>x</script>"
    read = page([replace(CLIPS[0], clip_id=hostile)], candidate=replace(EVALUATION.candidate, uri=hostile, package_sha256=hostile))
    assert "script" not in read.tags
    assert read.text.count(hostile) >= 3


def test_the_head_line_gives_both_rates_and_their_intervals() -> None:
    text = page().text
    for model in (EVALUATION.baseline, EVALUATION.candidate):
        assert f"{100 * model.wer.value:.1f} %" in text
        assert f"[{100 * model.wer.low:.1f}, {100 * model.wer.high:.1f}]" in text
    assert "−68.4" in text


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.3, -0.1, "is better, beyond chance"), (-0.3, 0.0, "No difference beyond chance"), (0.1, 0.3, "is worse, beyond chance")],
)
def test_the_verdict_follows_the_interval_of_the_difference(low: float, high: float, verdict: str) -> None:
    assert verdict in page(wer_difference=Estimate(value=(low + high) / 2, low=low, high=high)).text


def test_the_counts_of_errors_are_listed_for_both_models() -> None:
    rows = {row[0]: row[1:] for row in page().tables["All figures"]}
    assert rows["Substitutions"] == [str(EVALUATION.baseline.substitutions), str(EVALUATION.candidate.substitutions)]
    assert rows["Deletions"] == [str(EVALUATION.baseline.deletions), str(EVALUATION.candidate.deletions)]
    assert rows["Insertions"] == [str(EVALUATION.baseline.insertions), str(EVALUATION.candidate.insertions)]
    assert rows["Words in the references"] == ["38", "38"]


def test_the_worst_and_the_most_changed_clips_are_ten_each_in_order() -> None:
    clips = [clip(number, before=12 - number, after=number) for number in range(13)]
    tables = page(clips).tables
    assert named(tables["Most errors left"]) == [f"clip-{number:02}" for number in range(12, 2, -1)]
    assert named(tables["Most improved"]) == [f"clip-{number:02}" for number in range(6)]
    assert named(tables["Got worse"]) == [f"clip-{number:02}" for number in range(12, 6, -1)]


def test_a_model_without_errors_leaves_no_examples() -> None:
    tables = page([clip(1, before=0, after=0)]).tables
    assert "Most errors left" not in tables
    assert "Got worse" not in tables


def test_the_rate_of_each_length_is_of_its_own_clips() -> None:
    clips = [
        clip(1, 5, 0, duration_s=1.99),
        clip(2, 10, 5, duration_s=2.0),
        clip(3, 5, 0, words=20, duration_s=2.5),
        clip(4, 0, 0, words=0, duration_s=12.0),
        clip(5, 1, 2, duration_s=95.0),
    ]
    assert [row[:5] for row in page(clips).tables["WER by length of the recording"][1:]] == [
        ["0 to 2", "1", "10", "50.0 %", "0.0 %"],
        ["2 to 4", "2", "30", "50.0 %", "16.7 %"],
        ["10 to 15", "1", "0", "–", "–"],
        ["30 and more", "1", "10", "10.0 %", "20.0 %"],
    ]


@pytest.mark.parametrize("rate", [0.0, 1e-4, 0.07, 0.5, 1.155, 40.0])
def test_the_chart_of_intervals_holds_both_models_at_any_rate(rate: float) -> None:
    wer = Estimate(value=rate, low=rate * 0.8, high=rate * 1.3)
    document = render_report(replace(EVALUATION, candidate=replace(EVALUATION.candidate, wer=wer)), CLIPS)
    chart = document[document.index('<svg class="intervals"') : document.index("</svg>")]
    places = [float(place) for place in re.findall(r' (?:x1|x2|cx)="([^"]*)"', chart)]
    assert len(places) >= 10
    assert all(70 <= place <= 690 for place in places)
