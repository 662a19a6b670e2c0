import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avskrift.evaluation.bootstrap import group_clips
from avskrift.evaluation.error_rates import ErrorCounts, corpus_rate, count_clip_errors, count_errors, count_text_errors
from avskrift.evaluation.protocols import count_by_protocol, error_rates, spoken_by_utterance
from avskrift.evaluation.result import NORMALISED, RAW, UTTERANCE_MEAN
from avskrift.text.normaliser import normalise

SENTENCES = st.lists(st.sampled_from(["en", "katt", "åt", "för", "mycket", "Gröt!", "…", "3,5", "över"]), max_size=9).map(" ".join)


def edit_distance(left: list[str], right: list[str]) -> int:
    """The textbook recurrence, written for this test."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        row, above = [i], row
        for j, b in enumerate(right, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b)))
    return row[-1]


WORDS = st.text(st.sampled_from("aåbö 1.:%\n"), max_size=25)
CLIPS = st.lists(st.tuples(WORDS.filter(str.strip), WORDS), min_size=1, max_size=6)


@given(SENTENCES, SENTENCES)
def test_word_and_character_errors_equal_the_edit_distance(reference: str, hypothesis: str) -> None:
    errors = count_clip_errors(reference, hypothesis, "sv")
    expected, said = normalise(reference, "sv"), normalise(hypothesis, "sv")
    assert errors.words.errors == edit_distance(expected.split(), said.split())
    assert errors.characters.errors == edit_distance(list(expected), list(said))


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_counted_and_the_counts_cover_both_sides(reference: str, hypothesis: str) -> None:
    errors = count_clip_errors(reference, hypothesis, "sv")
    for counts, split in ((errors.words, str.split), (errors.characters, list)):
        assert counts.reference_units == len(split(normalise(reference, "sv")))
        assert counts.hits + counts.substitutions + counts.insertions == len(split(normalise(hypothesis, "sv")))


@given(st.text(max_size=60))
def test_a_text_holds_no_errors_against_itself(text: str) -> None:
    errors = count_clip_errors(text, text, "sv")
    for counts in (errors.words, errors.characters):
        assert counts == ErrorCounts(hits=counts.hits, substitutions=0, deletions=0, insertions=0)


@given(CLIPS)
def test_rates_are_those_of_jiwer_on_the_texts_as_they_are(clips: list[tuple[str, str]]) -> None:
    counted = [count_text_errors(said, heard) for said, heard in clips]
    said, heard = ([" ".join(text.split()) for text in side] for side in zip(*clips, strict=True))
    assert corpus_rate(one.words for one in counted) == jiwer.wer(said, heard)
    assert corpus_rate(one.characters for one in counted) == jiwer.cer(said, heard)


@given(CLIPS)
def test_rates_are_those_of_jiwer_on_normalised_texts(clips: list[tuple[str, str]]) -> None:
    clips = [clip for clip in clips if normalise(clip[0], "sv")] or [("ord", clips[0][1])]
    counted = count_errors([said for said, _ in clips], [heard for _, heard in clips], "sv")
    said, heard = ([normalise(text, "sv") for text in side] for side in zip(*clips, strict=True))
    assert corpus_rate(one.words for one in counted) == jiwer.wer(said, heard)
    assert corpus_rate(one.characters for one in counted) == jiwer.cer(said, heard)


@settings(max_examples=40)
@given(CLIPS)
def test_every_protocol_is_what_jiwer_makes_of_the_texts_that_it_compares(clips: list[tuple[str, str]]) -> None:
    clips = [clip for clip in clips if normalise(clip[0], "sv") and spoken_by_utterance(clip[0], "sv")] or [("ord", clips[0][1])]
    said, heard = (list(side) for side in zip(*clips, strict=True))
    rates = error_rates(count_by_protocol(said, heard, "sv"), group_clips([""] * len(clips)))
    compared = [(spoken_by_utterance(text, "sv"), spoken_by_utterance(other, "sv")) for text, other in clips]
    assert rates[RAW].wer.value == jiwer.wer([" ".join(text.split()) for text in said], [" ".join(text.split()) for text in heard])
    assert rates[NORMALISED].wer.value == jiwer.wer([normalise(text, "sv") for text in said], [normalise(text, "sv") for text in heard])
    assert rates[UTTERANCE_MEAN].wer.value == pytest.approx(sum(jiwer.wer(*pair) for pair in compared) / len(compared))
    assert rates[UTTERANCE_MEAN].cer.value == pytest.approx(sum(jiwer.cer(*pair) for pair in compared) / len(compared))
