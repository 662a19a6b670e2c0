import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import evaluations
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from avskrift.evaluation.clip_results import ClipResult, read_clip_results, write_clip_results
from avskrift.evaluation.decision import Override
from avskrift.evaluation.gate import decide
from avskrift.evaluation.policy import Policy
from avskrift.evaluation.report import render_report
from avskrift.evaluation.report_markdown import escaped, render_markdown
from avskrift.pages import visible
from avskrift.text.normaliser import normalise

EVALUATION, CLIPS = evaluations.evaluation(), evaluations.clip_results(3)
PIECES = r"""< > " ' & </td> <script> <!-- --> <![CDATA[ &lt; $title ${cards} | ` ``` * __ ~~ [a](javascript:x) ![ ](
--- === \ <br> &#60; |---|"""
MARKUP = st.sampled_from(
    [*PIECES.split(), "http://x.y", "www.x.y", "a@b.cd", "# ", "- ", "+ ", "> ", "1. ", "1) ", "\n\n", "    ", "\x00", "\u202e"]
)
TEXT = st.one_of(st.text(max_size=40), st.lists(st.one_of(MARKUP, st.text(max_size=5)), max_size=8).map("".join))
LINE = TEXT.map(lambda text: "".join(filter(str.isprintable, text)).strip()).filter(bool)
CLIP = st.builds(
    ClipResult,
    clip_id=TEXT,
    duration_s=st.floats(0.01, 100),
    reference=TEXT,
    baseline=TEXT,
    candidate=TEXT,
    reference_words=st.integers(1, 30),
    baseline_errors=st.integers(0, 90),
    candidate_errors=st.integers(1, 90),
    baseline_wer=st.none(),
    candidate_wer=st.none(),
    others=st.lists(TEXT, max_size=2).map(tuple),
)
TAGS = """html head meta title style body main section div p h1 h2 h3 strong small code span table thead tbody tr th td dl dt dd ol ul li
ins del u details summary svg g text line circle rect"""
MARKDOWN = MarkdownIt("gfm-like", {"linkify": False})
BARE_LINK = re.compile(r"(?<!\\)://|www\.|(?<!\\)@", re.IGNORECASE)  # what a reader that looks for links makes one of


class Shape(HTMLParser):
    """Tags without those of the aligned words, anything that is no element, the texts as written, and the aligned words by rows,
    without those that were not heard."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.shape: list[str] = []
        self.written: list[str] = []
        self.rows: tuple[list[str], list[str], list[str]] = ([], [], [])
        self._depth = 0  # within the aligned words
        self._cell = -1
        self._in_written = self._in_deleted = False
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert {name for name, _ in attrs}.isdisjoint({"onerror", "onload", "src", "href"})
        if self._depth or ("class", "words") in attrs:
            self._depth += 1
            self._cell = self._cell + 1 if self._depth == 3 else -1 if self._depth < 3 else self._cell
            self._in_deleted = tag == "del"
            assert tag in ("div", "span", "ins", "del", "u")
            return
        self.shape.append(tag)
        self._in_written = tag == "dd" and ("dir", "auto") in attrs
        self.written += [""] if self._in_written else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shape.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._in_written = self._in_deleted = False
        if self._depth:
            self._depth -= 1
            return
        self.shape.append("/" + tag)

    def handle_data(self, data: str) -> None:
        if self._in_written:
            self.written[-1] += data
        if self._depth >= 3 and not self._in_deleted:
            self.rows[self._cell].append(data)

    def handle_comment(self, data: str) -> None:
        self.shape.append("a comment")

    def handle_pi(self, data: str) -> None:
        self.shape.append("an instruction")

    def unknown_decl(self, data: str) -> None:
        self.shape.append("a declaration")


def plain(clip: ClipResult) -> ClipResult:
    return replace(clip, reference="a", baseline="b", candidate="c", clip_id="d")


@settings(max_examples=40, deadline=None)
@given(CLIP)
def test_no_text_changes_the_shape_of_the_page(clip: ClipResult) -> None:
    hostile, harmless = (Shape(render_report(EVALUATION, [one])) for one in (clip, plain(clip)))
    assert hostile.shape == harmless.shape
    assert {tag.lstrip("/") for tag in hostile.shape} <= set(TAGS.split())
    assert hostile.written[:3] == [visible(said) or "–" for said in (clip.reference, clip.baseline, clip.candidate)]


@settings(max_examples=40, deadline=None)
@given(*[st.lists(st.sampled_from(["vi", "bor", "i", "ett", "rött", "hus", "och"]), max_size=12).map(" ".join)] * 3)
def test_the_rows_of_aligned_words_are_the_texts_that_were_compared(reference: str, baseline: str, candidate: str) -> None:
    clip = replace(CLIPS[0], reference=reference, baseline=baseline, candidate=candidate)
    rows = Shape(render_report(EVALUATION, [clip])).rows
    # Once among the worst clips, once among the most changed.
    assert rows == tuple(2 * normalise(said, "sv").split() for said in (reference, baseline, candidate))


@settings(max_examples=30, deadline=None)
@given(LINE, LINE, TEXT, TEXT)
def test_no_name_or_reason_changes_the_shape_of_the_decision_and_the_figures(by: str, reason: str, uri: str, name: str) -> None:
    shapes = []
    for one, why, model, slice_name in ((by, reason, uri, name), ("a", "b", "c", "d")):
        changed = evaluations.changed(evaluations.changed(EVALUATION, "candidate.uri", model), "slices.0.name", slice_name)
        policy, override = Policy(max_wer=0.0), Override(by=one, reason=why)
        decision = decide(changed, policy, package_sha256=evaluations.CANDIDATE, clips=evaluations.clip_results(), override=override)
        shapes.append((Shape(render_report(changed, CLIPS, decision)).shape, blocks(render_markdown(changed, decision))))
    assert shapes[0] == shapes[1]


def blocks(markdown: str) -> list[str]:
    """What stands in a document of Markdown, but for texts."""
    tokens = [token for block in MARKDOWN.parse(markdown) for token in (block, *(block.children or []))]
    return [token.type for token in tokens if token.type not in ("text", "text_special", "entity", "softbreak")]


@settings(max_examples=200, deadline=None)
@given(TEXT)
def test_any_string_is_read_back_from_markdown_as_it_is_visible(value: str) -> None:
    shown = visible(value).strip()
    assert not BARE_LINK.search(escaped(value))
    for written, opening in ((escaped(value), "paragraph_open"), (f"- {escaped(value)}", "bullet_list_open")):
        if shown:
            tokens = MARKDOWN.parse(written)
            assert tokens[0].type == opening
            (inline,) = [token for token in tokens if token.type == "inline"]
            assert "".join(child.content for child in inline.children or []) == shown


@settings(max_examples=100, deadline=None)
@given(TEXT)
def test_any_string_is_one_cell_of_a_table(value: str) -> None:
    tokens = MARKDOWN.parse(f"| a | b |\n| --- | --- |\n| {escaped(value)} | c |\n")
    assert [token.type for token in tokens].count("td_open") == 2


@given(st.lists(CLIP, max_size=5))
def test_clip_results_are_read_as_they_were_written(tmp_path_factory, clips: list[ClipResult]) -> None:
    folder: Path = tmp_path_factory.mktemp("clips")
    write_clip_results(folder, clips)
    assert read_clip_results(folder) == clips
