from html.parser import HTMLParser
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from avskrift.evaluation.clip_results import ClipResult, read_clip_results, write_clip_results
from avskrift.evaluation.report import render_report
from avskrift.evaluation.result import read_evaluation

EVALUATION = read_evaluation(Path(__file__).parents[1] / "golden" / "evaluation")
MARKUP = st.sampled_from(
    ["<", ">", '"', "'", "&", "</td>", "<script>", "<!--", "-->", "<![CDATA[", "&lt;", "$title", "${cards}", "\x00", "\u202e"]
)
TEXT = st.one_of(st.text(max_size=40), st.lists(st.one_of(MARKUP, st.text(max_size=5)), max_size=8).map("".join))
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
)


class Shape(HTMLParser):
    """The sequence of tags and comments, and the text of what was said."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.shape: list[str] = []
        self.said: list[str] = []
        self._in_said = False
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shape.append(tag)
        self._in_said = tag == "td" and ("class", "said") in attrs
        self.said += [""] if self._in_said else []

    def handle_endtag(self, tag: str) -> None:
        self.shape.append("/" + tag)
        self._in_said = False

    def handle_data(self, data: str) -> None:
        if self._in_said:
            self.said[-1] += data

    def handle_comment(self, data: str) -> None:
        self.shape.append("a comment")

    def unknown_decl(self, data: str) -> None:
        self.shape.append("a declaration")


def plain(clip: ClipResult) -> ClipResult:
    return ClipResult(
        **{name: getattr(clip, name) for name in ClipResult.__slots__}
        | {"reference": "a", "baseline": "b", "candidate": "c", "clip_id": "d"}
    )


@settings(max_examples=80)
@given(CLIP)
def test_no_text_changes_the_shape_of_the_page(clip: ClipResult) -> None:
    hostile, harmless = (Shape(render_report(EVALUATION, [one])) for one in (clip, plain(clip)))
    assert hostile.shape == harmless.shape
    shown = clip.candidate.strip("\x00")
    if shown.isprintable() and shown == clip.candidate:
        assert hostile.said[2] == (shown or "–")


@given(st.lists(CLIP, max_size=5))
def test_clip_results_are_read_as_they_were_written(tmp_path_factory, clips: list[ClipResult]) -> None:
    folder = tmp_path_factory.mktemp("clips")
    write_clip_results(folder, clips)
    assert read_clip_results(folder) == clips
