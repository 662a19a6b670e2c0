from hypothesis import given, settings
from hypothesis import strategies as st

from avskrift.evaluation.word_alignment import aligned_words

WORDS = st.lists(st.sampled_from(["ja", "nej", "å", "öl", "och"]), max_size=12)


def edit_distance(first: list[str], second: list[str]) -> int:
    """Levenshtein's, as the textbook has it."""
    row = list(range(len(second) + 1))
    for place, word in enumerate(first, start=1):
        above, row[0] = row[0], place
        for column, other in enumerate(second, start=1):
            above, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, above + (word != other))
    return row[-1]


@given(WORDS, WORDS)
@settings(max_examples=200)
def test_an_alignment_holds_both_sides_in_order_with_the_fewest_edits(said: list[str], heard: list[str]) -> None:
    aligned = aligned_words(said, heard)
    assert [word for _, word, _ in aligned if word is not None] == said
    assert [word for _, _, word in aligned if word is not None] == heard
    assert sum(kind != "equal" for kind, _, _ in aligned) == edit_distance(said, heard)
    for kind, expected, word in aligned:
        assert (kind == "equal") == (expected == word)
        assert (kind == "insert") == (expected is None)
        assert (kind == "delete") == (word is None)
