import pytest

from avskrift.errors import EvaluationError
from avskrift.evaluation.error_rates import ErrorCounts, corpus_rate, count_clip_errors, count_errors, count_text_errors, total


def counts(hits: int, substitutions: int, deletions: int, insertions: int) -> ErrorCounts:
    return ErrorCounts(hits=hits, substitutions=substitutions, deletions=deletions, insertions=insertions)


def test_each_kind_of_word_error_is_counted() -> None:
    words = count_clip_errors("en katt satt på mattan", "en hatt satt på den mattan", "sv").words
    assert words == counts(4, 1, 0, 1)
    assert count_clip_errors("en katt satt", "en katt", "sv").words == counts(2, 0, 1, 0)


def test_case_and_punctuation_are_no_errors_but_a_diacritic_is() -> None:
    assert count_clip_errors("Är du där?", "är du där", "sv").words.errors == 0
    assert count_clip_errors("för", "for", "sv").words.errors == 1
    assert count_clip_errors("för", "for", "sv").characters.errors == 1


def test_a_split_compound_costs_one_character_and_two_words() -> None:
    errors = count_clip_errors("järnvägsstation", "järnvägs station", "sv")
    assert errors.words == counts(0, 1, 0, 1)
    assert errors.characters == counts(15, 0, 0, 1)


def test_a_wrong_letter_of_a_chinese_sentence_costs_a_letter_and_not_the_sentence() -> None:
    errors = count_clip_errors("今天天气很好我们去公园散步吧", "今天天气很好 我们去公园散步啊。", "zh")
    assert errors.words == errors.characters == counts(13, 1, 0, 0)
    assert count_text_errors("今天 天气", "今 天天汽", "zh").words == counts(3, 1, 0, 0)


def test_whitespace_runs_and_edges_are_no_character_errors() -> None:
    assert count_clip_errors("  god \t morgon\n", "god morgon", "sv").characters == counts(10, 0, 0, 0)


def test_a_reference_that_normalises_to_nothing_counts_what_was_said_over_it_as_insertions() -> None:
    errors = count_clip_errors("…!", "tack för att du tittade", "sv")
    assert errors.words == counts(0, 0, 0, 5)
    assert errors.words.rate is None
    assert errors.characters.insertions == len("tack för att du tittade")
    assert count_clip_errors("…!", "", "sv").words == counts(0, 0, 0, 0)


def test_an_empty_hypothesis_deletes_every_word() -> None:
    assert count_clip_errors("två ord", "", "sv").words == counts(0, 0, 2, 0)


def test_the_corpus_rate_weighs_clips_by_their_words() -> None:
    # Clip rates are 1 and 0; their mean would be 0.5.
    clips = [
        count_clip_errors("ja", "nej", "sv").words,
        count_clip_errors("det var en gång för länge sedan", "det var en gång för länge sedan", "sv").words,
    ]
    assert corpus_rate(clips) == 1 / 8


def test_insertions_over_an_empty_reference_count_towards_the_corpus_rate() -> None:
    clips = count_errors(["ett två", "?"], ["ett två", "tre"], "sv")
    assert corpus_rate(clip.words for clip in clips) == 1 / 2


def test_a_rate_may_exceed_one() -> None:
    assert corpus_rate([count_clip_errors("nej", "ja det var det ju", "sv").words]) == 5


@pytest.mark.parametrize("references", [[], ["?!"], ["", " "]])
def test_a_test_set_without_words_has_no_rate(references: list[str]) -> None:
    clips = count_errors(references, [""] * len(references), "sv")
    with pytest.raises(EvaluationError, match="no words"):
        corpus_rate(clip.words for clip in clips)


def test_a_skipped_clip_is_refused() -> None:
    with pytest.raises(EvaluationError, match="2 references but 1 hypotheses"):
        count_errors(["ett", "två"], ["ett"], "sv")


def test_totals_add_up_over_clips() -> None:
    assert total([counts(1, 2, 3, 4), counts(10, 20, 30, 40)]) == counts(11, 22, 33, 44)
