from hypothesis import given
from hypothesis import strategies as st

from avskrift.evaluation.error_rates import ErrorCounts, count_clip_errors
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
