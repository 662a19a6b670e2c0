"""The report, read back as a browser would: of a sound evaluation, with one thing changed."""

import re
from dataclasses import replace
from typing import Any

import evaluations
import pytest
from html_page import Page

from avskrift.evaluation.clip_results import ClipResult
from avskrift.evaluation.decision import Decision, Override
from avskrift.evaluation.gate import decide
from avskrift.evaluation.policy import Policy
from avskrift.evaluation.report import render_report
from avskrift.evaluation.report_figures import pictures
from avskrift.evaluation.report_markdown import card_lines, render_markdown
from avskrift.evaluation.result import NORMALISED, Evaluation
from avskrift.text.normaliser import normaliser_version

EVALUATION, CLIPS = evaluations.evaluation(), evaluations.clip_results()
HOSTILE = "</td></table><script>alert(1)</script><img src=x onerror=alert(1)>"
OTHER = replace(EVALUATION.baseline, uri="models:/avskrift-sv/3", package_sha256=evaluations.OTHER, hallucination=None)
SECTIONS = (
    "Word error rate",
    "Three protocols",
    "Slices",
    "Words that nobody said",
    "Long recordings",
    "Short context",
    "What was kept of the base model",
    "Speed",
    "Worst clips",
    "Most changed clips",
    "How it was measured",
)


def page(evaluation: Evaluation = EVALUATION, clips: list[ClipResult] = CLIPS, decision: Decision | None = None) -> Page:
    return Page(render_report(evaluation, clips, decision))


def changed(path: str, value: Any) -> Evaluation:
    return evaluations.changed(EVALUATION, path, value)


def decided(policy: Policy, override: Override | None = None, evaluation: Evaluation = EVALUATION) -> Decision:
    return decide(evaluation, policy, package_sha256=evaluations.CANDIDATE, clips=CLIPS, override=override)


def clip(number: int, before: int, after: int, *, reference: str = "ett", baseline: str = "två", candidate: str = "tre") -> ClipResult:
    return ClipResult(
        clip_id=f"clip-{number:02}",
        duration_s=3.0,
        reference=reference,
        baseline=baseline,
        candidate=candidate,
        reference_words=10,
        baseline_errors=before,
        candidate_errors=after,
        baseline_wer=before / 10,
        candidate_wer=after / 10,
    )


def listed(document: str, heading: str) -> list[str]:
    """The ids of the clips under a heading."""
    section = document[document.index(f"<h2>{heading}</h2>") :]
    return re.findall(r"<li><p><code>(.*?)</code>", section[: section.index("</section>")])


def words(document: str) -> list[list[str]]:
    """The aligned words of the only clip, by columns: reference, baseline, candidate, with the elements that mark them."""
    aligned = re.search(r'<div class="words"[^>]*>(.*?)</div>', document)
    assert aligned is not None
    columns = re.findall(r"<span>(<span>.*?</span>)</span>", aligned[1])
    return [re.findall(r"<span>((?:(?!<span>).)*?)</span>", column) for column in columns]


# What every page is


def test_the_report_has_no_scripts_fetches_nothing_and_forbids_both() -> None:
    document = render_report(EVALUATION, CLIPS, decided(Policy()))
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


def test_the_sections_stand_in_their_order_after_the_decision() -> None:
    document = render_report(EVALUATION, CLIPS, decided(Policy()))
    headings = re.findall("<h2>(.*?)</h2>", document)
    assert headings == ["Every rule of the gate", *SECTIONS]
    assert document.index("Passed") < document.index(headings[0])


@pytest.mark.parametrize("field", ["language", "split", "engine", "machine", "normaliser", "resampled", "dataset_fingerprint"])
def test_every_string_of_the_evaluation_is_escaped(field: str) -> None:
    read = page(changed(field, '"><script>x</script>&amp;'))
    assert "script" not in read.tags
    assert "<script>x</script>&amp;" in read.text.lower()


@pytest.mark.parametrize("path", ["candidate.uri", "slices.0.name", "slices.0.kind", "retention.base_uri", "retention.language"])
def test_every_name_in_the_evaluation_is_escaped(path: str) -> None:
    read = page(replace(changed(path, HOSTILE), worst_slice=None))
    assert not read.tags & {"script", "img"}
    assert HOSTILE in read.text


def test_what_was_said_heard_and_decided_is_escaped() -> None:
    hostile = replace(CLIPS[0], clip_id=HOSTILE, reference=HOSTILE, baseline=HOSTILE, candidate=HOSTILE)
    read = page(clips=[hostile], decision=decided(Policy(max_wer=0.01), Override(by=HOSTILE, reason=HOSTILE)))
    assert not read.tags & {"script", "img"}
    assert read.text.count(HOSTILE) == 2 + 4 * 2  # who and why; the clip among the worst and among the changed


# The decision


def test_without_a_decision_it_says_that_the_gate_has_not_judged() -> None:
    read = page()
    assert "Not decided yet" in read.text
    assert "Every rule of the gate" not in read.tables


def test_a_decision_comes_first_with_every_rule_its_figure_and_its_threshold() -> None:
    decision = decided(Policy())
    read = page(decision=decision)
    assert read.text.index("Passed") < read.text.index("Word error rate")
    rows = read.tables["Every rule of the gate"]
    assert [row[:2] for row in rows[1:]] == [["✓ holds", f"{rule.name}{rule.sentence}"] for rule in decision.rules]
    assert [row[2:] for row in rows if row[1].startswith("max_wer")] == [["0.17", "0.3"]]
    assert decision.evaluation_sha256 in read.text


def test_a_rejection_gives_its_reasons_and_lists_the_rules_that_fail_first() -> None:
    decision = decided(Policy(max_wer=0.1, minimum_clips=1000))
    read = page(decision=decision)
    assert "Rejected" in read.text
    assert [row[0] for row in read.tables["Every rule of the gate"][1:4]] == ["✗ fails", "✗ fails", "✓ holds"]
    before_the_figures = read.text[: read.text.index("Every rule of the gate")]
    assert [rule.sentence in before_the_figures for rule in decision.failed] == [True, True]


def test_an_override_says_who_and_why_and_what_it_went_past() -> None:
    decision = decided(Policy(max_wer=0.1), Override(by="release-manager Öberg", reason="the old one is gone"))
    read = page(decision=decision)
    assert decision.passed
    assert "Overridden" in read.text
    assert "release-manager Öberg: the old one is gone" in read.text
    assert read.tables["Every rule of the gate"][1][0] == "✗ fails"
    assert "holds: the package may be promoted" not in read.text


def test_an_override_that_reaches_nothing_is_shown_as_a_rejection() -> None:
    wrong = changed("split", "validation")
    decision = decided(Policy(), Override(by="release-manager Öberg", reason="the old one is gone"), evaluation=wrong)
    text = page(wrong, decision=decision).text
    assert "Rejected" in text
    assert "No override reaches test_split (release-manager Öberg: the old one is gone)" in text


# The figures


def test_the_cards_give_both_rates_the_difference_its_interval_and_the_wins() -> None:
    text = page().text
    for shown in ("45.0 %", "[43.0, 47.0]", "15.0 %", "[13.0, 17.0]", "−30.0", "[−35.0, −25.0]", "100.0 %"):
        assert shown in text[: text.index("Three protocols")]


@pytest.mark.parametrize(("wins", "shown"), [(1.0, "100.0 %"), (0.99996, "> 99.9 %"), (0.5, "50.0 %"), (0.0001, "< 0.1 %"), (0.0, "0.0 %")])
def test_only_all_resamples_are_a_hundred_percent(wins: float, shown: str) -> None:
    text = page(changed("wer_difference.wins", wins)).text
    assert f"Resamples that the candidate wins{shown}" in text


@pytest.mark.parametrize(
    ("margin", "value", "verdict"),
    [(0.1, -0.3, "is better, beyond chance"), (0.4, -0.3, "No difference beyond chance"), (0.3, -0.3, "No difference beyond chance")],
)
def test_the_verdict_follows_the_interval_of_the_difference(margin: float, value: float, verdict: str) -> None:
    assert verdict in page(replace(EVALUATION, wer_difference=evaluations.difference(value, margin))).text


def test_a_candidate_that_is_worse_is_said_to_be() -> None:
    swapped = replace(EVALUATION, candidate=EVALUATION.baseline, baseline=EVALUATION.candidate)
    worse = replace(swapped, wer_difference=evaluations.difference(0.3, 0.05))
    assert "is worse, beyond chance" in page(worse).text


def test_three_protocols_stand_side_by_side_for_every_model() -> None:
    rows = page(replace(EVALUATION, others=(OTHER,))).tables["Three protocols"]
    assert rows[0] == ["", "", "Normalised", "Raw", "Mean of utterances"]
    assert [row[1] for row in rows[1:]] == 3 * ["Baseline", "Candidate", "Other 1"]
    assert rows[2] == ["", "Candidate", "15.0 %[13.0, 17.0]", "25.0 %[23.0, 27.0]", "16.0 %[14.0, 18.0]"]
    assert rows[8] == ["", "Candidate", *(f"{errors}of 1,000 words" for errors in ("100 + 40 + 10", "200 + 40 + 10", "100 + 40 + 10"))]


def test_slices_have_counts_intervals_and_the_difference_and_the_worst_is_named() -> None:
    read = page()
    rows = read.tables["WER by the other slices"]  # the last heading above the table
    shown = ["25", "4", "250", "50.0 %[47.0, 53.0]", "20.0 %[17.0, 23.0]", "−30.0[−35.0, −25.0]", "100.0 %"]
    assert rows[2] == ["", "2 to 4 s worst", *shown]
    assert [row[0] for row in rows[1:]] == ["duration", "", "", "", "gender", "", "source", ""]
    assert "The candidate is weakest in the slice duration 2 to 4 s: WER 20.0 %." in read.text
    assert "worse than the baseline, beyond chance, in none" in read.text


def test_a_slice_in_which_the_candidate_is_worse_is_named_too() -> None:
    worse = replace(EVALUATION.slices[4], candidate=evaluations.estimate(0.6, 0.03), difference=evaluations.difference(0.2, 0.05))
    text = page(changed("slices.4", worse)).text
    assert "It is worse than the baseline, beyond chance, in gender female." in text
    assert "female worse than the baseline" in text


def test_words_that_nobody_said_are_counted_by_the_kind_of_sound() -> None:
    read = page(replace(EVALUATION, others=(OTHER,)))
    rows = {row[0]: row[1:] for row in read.tables["Words that nobody said"]}
    assert rows["Keyboard clicks"] == ["180.0180 in 60 s", "3.03 in 60 s", "not measured"]
    assert rows["All together"][1] == "0.5[0.0, 1.0]"
    assert "Baseline: 4 of 100; candidate: 1 of 100; other 1: 4 of 100." in read.text


def test_what_a_model_was_not_measured_for_says_so_beside_what_another_was() -> None:
    rows = {row[0]: row[1:] for row in page().tables["Short context"]}
    assert rows["WER, encoded as the package says"] == ["not measured", "16.0 %[13.0, 19.0]"]
    assert rows["Loss, percentage points"] == ["not measured", "+1.0[−1.0, +3.0]"]


def test_what_was_not_measured_at_all_says_so() -> None:
    models = {
        name: replace(getattr(EVALUATION, name), hallucination=None, long_form=None, short_context=None)
        for name in ("candidate", "baseline")
    }
    read = page(replace(EVALUATION, **models, retention=None, slices=(), worst_slice=None), [])
    for heading in ("Slices", "Long recordings", "Short context"):
        assert f"{heading}Not measured." in read.text
    assert "Sounds without speech: not measured." in read.text
    assert "Not measured: no second dataset was given." in read.text
    assert re.findall("<h2>(.*?)</h2>", render_report(EVALUATION, [])) == list(SECTIONS)


def test_a_latency_that_was_not_taken_is_not_zero() -> None:
    speed = replace(EVALUATION.candidate.speed, latency_p50_s=0.0, latency_p95_s=0.0, latency_clips=0)
    rows = {row[0]: row[1:] for row in page(changed("candidate.speed", speed)).tables["Speed"]}
    assert rows["Seconds for one clip, median"] == ["0.5050 clips", "not measured"]


def test_speed_names_the_machine_and_the_method_names_what_was_measured() -> None:
    text = page().text
    assert "On a machine with 2 cores." in text
    for shown in (evaluations.CANDIDATE, evaluations.BASELINE, EVALUATION.dataset_fingerprint, EVALUATION.engine, EVALUATION.clips_sha256):
        assert shown in text[text.index("How it was measured") :]
    assert "95 % percentile intervals of 10,000 bootstrap resamples of speakers" in text
    assert "since speakers are unknown" not in text
    assert "of clips, since speakers are unknown or too few" in page(replace(EVALUATION, resampled="clips")).text


@pytest.mark.parametrize("rate", [0.0, 1e-4, 0.07, 0.5, 1.155, 40.0])
def test_charts_hold_every_model_at_any_rate(rate: float) -> None:
    wer = replace(EVALUATION.candidate.wer, value=rate, low=rate * 0.8, high=rate * 1.3)
    other = evaluations.changed(OTHER, f"rates.{NORMALISED}.wer", wer)
    for picture in pictures(replace(EVALUATION, others=(other,))).values():
        places = [float(place) for place in re.findall(r' (?:x1|x2|cx)="([^"]*)"', picture)]
        assert len(places) >= 10
        assert all(124 <= place <= 454 for place in places)


def test_pictures_are_whole_files_that_fetch_nothing() -> None:
    drawn = pictures(EVALUATION)
    assert list(drawn) == ["wer.svg", "wer_by_duration.svg", "wer_by_slice.svg"]
    for picture in drawn.values():
        assert picture.startswith("<svg")
        assert picture.count("http") == 1  # the namespace
        assert not Page(picture).tags & {"script", "image", "use", "foreignObject", "a"}
    assert list(pictures(replace(EVALUATION, slices=()))) == ["wer.svg"]


# Evaluations that cannot be right


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "many", [], {}, True, -1])
@pytest.mark.parametrize(
    "path",
    [
        "clips",
        "hours",
        "language",
        "confidence",
        "resamples",
        "engine",
        "others",
        "slices",
        "candidate",
        "candidate.uri",
        "candidate.rates",
        f"baseline.rates.{NORMALISED}",
        f"candidate.rates.{NORMALISED}.wer.high",
        "candidate.hallucination.sounds",
        "candidate.long_form",
        "wer_difference.wins",
        "slices.0.difference",
        "retention.base",
        "worst_slice",
    ],
)
def test_an_evaluation_that_holds_anything_anywhere_has_a_page_with_its_decision(path: str, value: object) -> None:
    wrong = changed(path, value)
    read = page(wrong, decision=decided(Policy(), evaluation=wrong))
    assert "Every rule of the gate" in read.tables


def test_figures_that_cannot_be_right_are_named_and_none_is_shown() -> None:
    wrong = changed("slices.1.candidate.high", float("nan"))
    read = page(wrong)
    assert "slices.1.candidate" in read.text
    assert not set(SECTIONS) & set(read.tables)


# The clips


def test_the_worst_and_the_most_changed_clips_are_twenty_each_in_order() -> None:
    clips = [clip(number, before=44 - number, after=number) for number in range(45)]
    document = render_report(EVALUATION, clips)
    assert listed(document, "Worst clips") == [f"clip-{number:02}" for number in range(44, 24, -1)]
    most = listed(document, "Most changed clips")
    assert most[:4] == ["clip-00", "clip-44", "clip-01", "clip-43"]
    assert len(most) == 20
    assert "Against the baseline 22 of 45 clips improved, 22 worsened and 1 kept their number of errors." in Page(document).text


def test_improved_and_worsened_clips_are_marked() -> None:
    text = page(clips=[clip(1, before=5, after=2), clip(2, before=1, after=2), clip(3, before=3, after=3)]).text
    assert "clip-01 ▲ improved by 3" in text
    assert "clip-02 ▼ worsened by 1" in text
    assert "clip-03 = as many errors" in text


def test_a_model_without_errors_leaves_no_examples() -> None:
    document = render_report(EVALUATION, [clip(1, before=0, after=0)])
    assert listed(document, "Worst clips") == []
    assert listed(document, "Most changed clips") == []


def test_every_word_stands_below_the_word_of_the_reference_that_it_was_heard_for() -> None:
    reference, candidate = "Vi bor i ett rött hus.", "Nu vi bor i ett rött hus där"
    heard = clip(1, before=2, after=2, reference=reference, baseline="Vi bor ett rött mus", candidate=candidate)
    assert words(render_report(EVALUATION, [heard])) == [
        ["", "", "<ins>nu</ins>"],
        ["vi", "vi", "vi"],
        ["bor", "bor", "bor"],
        ["i", "<del>i</del>", "i"],
        ["ett", "ett", "ett"],
        ["rött", "rött", "rött"],
        ["hus", "<u>mus</u>", "hus"],
        ["", "", "<ins>där</ins>"],
    ]


def test_words_inserted_at_the_same_place_share_their_columns() -> None:
    heard = clip(1, before=2, after=1, reference="hej då", baseline="hej du ja då", candidate="hej å då")
    assert words(render_report(EVALUATION, [heard])) == [
        ["hej", "hej", "hej"],
        ["", "<ins>du</ins>", "<ins>å</ins>"],
        ["", "<ins>ja</ins>", ""],
        ["då", "då", "då"],
    ]


def test_a_text_that_is_empty_has_every_word_deleted_and_one_that_nobody_said_is_all_insertions() -> None:
    empty = words(render_report(EVALUATION, [clip(1, before=0, after=2, reference="hej då", baseline="hej då", candidate="")]))
    assert empty == [["hej", "hej", "<del>hej</del>"], ["då", "då", "<del>då</del>"]]
    unsaid = words(render_report(EVALUATION, [clip(1, before=0, after=1, reference="…", baseline="", candidate="Hm.")]))
    assert unsaid == [["", "", "<ins>hm</ins>"]]


def test_a_text_that_repeats_itself_is_cut_in_the_columns_and_whole_below() -> None:
    heard = clip(1, before=0, after=90, reference="tack", baseline="tack", candidate="tack " * 91)
    document = render_report(EVALUATION, [heard])
    assert len(words(document)) == 14
    assert "<ins>… 78 more</ins>" in document
    assert " ".join(["tack"] * 91) in Page(document).text


def test_every_report_says_that_a_word_is_a_letter_where_it_is() -> None:
    said = "every word error rate is a character error rate"
    chinese = evaluations.evaluation(language="zh", normaliser=normaliser_version("zh"))
    for swedish, other in (
        (render_report(EVALUATION, CLIPS), render_report(chinese, CLIPS)),
        (render_markdown(EVALUATION), render_markdown(chinese)),
        ("\n".join(card_lines(EVALUATION)), "\n".join(card_lines(chinese))),
    ):
        assert said in other
        assert said not in swedish
    assert "generic-2-letters" in "\n".join(card_lines(chinese))
