"""The three protocols differ where they should: case, punctuation, numbers, and how much a short clip weighs."""

import pytest

from avskrift.errors import EvaluationError
from avskrift.evaluation.bootstrap import group_clips
from avskrift.evaluation.protocols import count_by_protocol, error_rates, spoken_by_utterance
from avskrift.evaluation.result import NORMALISED, PROTOCOLS, RAW, UTTERANCE_MEAN, ErrorRates


def rates(*clips: tuple[str, str], language: str = "sv") -> dict[str, ErrorRates]:
    """Of (said, heard)."""
    counted = count_by_protocol([said for said, _ in clips], [heard for _, heard in clips], language)
    return error_rates(counted, group_clips([""] * len(clips)))


def wers(*clips: tuple[str, str], language: str = "sv") -> dict[str, float]:
    return {protocol: one.wer.value for protocol, one in rates(*clips, language=language).items()}


@pytest.mark.parametrize(
    ("said", "heard", "normalised", "raw", "utterance"),
    [
        ("Det regnar", "det regnar", 0, 1 / 2, 0),
        ("Det regnar.", "Det regnar", 0, 1 / 2, 0),
        ("Det regnar – igen", "Det regnar igen", 0, 1 / 4, 1 / 4),  # a dash beyond ASCII is a word to the script
        ("vi är tjugo", "vi är 20", 0, 1 / 3, 0),
        ("det är tre komma fem", "det är 3,5", 0, 3 / 5, 3 / 5),  # the script reads "trefem"
        ("ett EU-land", "ett EU land", 0, 2 / 2, 2 / 2),  # and joins what a hyphen ties
        ("t.ex. nu", "till exempel nu", 0, 2 / 2, 2 / 2),
        ("för sent", "for sent", 1 / 2, 1 / 2, 1 / 2),
        ("två\n ord", " två ord", 0, 0, 0),
    ],
    ids=["case", "punctuation", "dash", "number", "decimals", "hyphen", "abbreviation", "diacritic", "whitespace"],
)
def test_protocols_differ_in_what_they_call_an_error(said: str, heard: str, normalised: float, raw: float, utterance: float) -> None:
    assert wers((said, heard)) == pytest.approx({NORMALISED: normalised, RAW: raw, UTTERANCE_MEAN: utterance})


def test_a_short_clip_weighs_as_much_as_a_long_one_in_the_mean_alone() -> None:
    long = "det var en gång för länge sedan"
    found = wers(("ja", "nej"), (long, long))
    assert found == {NORMALISED: 1 / 8, RAW: 1 / 8, UTTERANCE_MEAN: 1 / 2}


def test_the_mean_is_over_utterances_that_have_a_word_left() -> None:
    found = wers(("ja", "nej"), ("ja", "ja"), ("?!", "brus"))
    assert found[UTTERANCE_MEAN] == 1 / 2
    assert found[NORMALISED] == 2 / 2, "where all units count together, what is said over no word is an insertion"


def test_characters_are_counted_by_every_protocol() -> None:
    found = {protocol: one.cer.value for protocol, one in rates(("Aj, 2!", "aj två"), ("aj", "aj")).items()}
    assert found[NORMALISED] == 0
    assert found[RAW] == 5 / 8
    assert found[UTTERANCE_MEAN] == 0


def test_word_errors_are_told_apart_by_every_protocol() -> None:
    for one in rates(("en katt satt på mattan", "en hatt satt den på"), ("ja", "ja")).values():
        assert (one.substitutions, one.deletions, one.insertions, one.reference_words) == (1, 1, 1, 6)


def test_every_interval_holds_its_rate_and_has_a_width_where_clips_differ() -> None:
    for one in rates(*[("en katt", "en katt"), ("En, katt", "Fel, katt")] * 30).values():
        for rate in (one.wer, one.cer):
            assert rate.low < rate.value < rate.high


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Kl. 14.30", "kl fjortontrettio"),
        ("EU-land, 2000", "euland tvåtusen"),
        ("007", "sju"),
        ("21:a", "tjugoetta"),
        ("１２ ½", "tolv 1⁄2"),
        ("5" * 16, " ".join(["fem"] * 16)),
        ("  Å\u00a0ä \n", "å ä"),
        ("…”", "...”"),
    ],
)
def test_utterances_are_written_as_the_protocol_says(text: str, spoken: str) -> None:
    assert spoken_by_utterance(text, "sv") == spoken


def test_numbers_of_other_languages_stay_digits() -> None:
    assert spoken_by_utterance("Room 20!", "en") == "room 20"
    assert wers(("room twenty", "room 20"), language="en")[UTTERANCE_MEAN] == 1 / 2


def test_a_number_of_any_length_is_read() -> None:
    assert len(spoken_by_utterance("9" * 5_000, "sv").split()) == 5_000  # int() reads no more than 4,300 digits


def test_a_skipped_clip_is_refused() -> None:
    with pytest.raises(EvaluationError, match="2 references but 1 hypotheses"):
        count_by_protocol(["ett", "två"], ["ett"], "sv")


def test_all_protocols_are_measured() -> None:
    assert tuple(rates(("ja", "ja"))) == PROTOCOLS
