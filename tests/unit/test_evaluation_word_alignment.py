from avskrift.evaluation.word_alignment import aligned_words


def test_each_word_stands_beside_the_one_that_was_heard_for_it() -> None:
    assert aligned_words(["det", "regnar", "mycket", "i", "dag"], ["det", "snöar", "i", "dag", "igen"]) == [
        ("equal", "det", "det"),
        ("substitute", "regnar", "snöar"),
        ("delete", "mycket", None),
        ("equal", "i", "i"),
        ("equal", "dag", "dag"),
        ("insert", None, "igen"),
    ]


def test_a_side_without_words_leaves_the_other_alone() -> None:
    assert aligned_words([], []) == []
    assert aligned_words(["ja"], []) == [("delete", "ja", None)]
    assert aligned_words([], ["ja"]) == [("insert", None, "ja")]


def test_the_same_word_twice_is_two_words() -> None:
    assert [kind for kind, _, _ in aligned_words(["ja", "ja"], ["ja", "ja", "ja"])].count("insert") == 1
