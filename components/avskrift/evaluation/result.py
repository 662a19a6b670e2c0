"""What evaluate measures and the gate, the registry and people read."""

from __future__ import annotations

from dataclasses import dataclass

RESULT_FILE = "evaluation.json"
CLIPS_FILE = "clips.jsonl"
REPORT_FILE = "report.html"
CARD_FILE = "model_card.md"
RESULT_VERSION = 2

NORMALISED = "normalised"  # all errors over all units of the references, both sides normalised: the WER of every other place
RAW = "raw"  # the same over the texts as written and as transcribed
UTTERANCE_MEAN = "utterance-mean"  # mean of the utterances' rates, after lower-casing and number expansion
PROTOCOLS = (NORMALISED, RAW, UTTERANCE_MEAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its bootstrap interval [low, high]."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Candidate minus baseline on the same clips, with its interval from resamples that both share.

    ``wins`` is the share of the resamples in which the candidate has the lower rate; a tie counts half.
    """

    value: float
    low: float
    high: float
    wins: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRates:
    """Errors by one protocol; see :data:`PROTOCOLS`. The counts are of words."""

    wer: Estimate
    cer: Estimate
    substitutions: int
    deletions: int
    insertions: int
    reference_words: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """On the machine that evaluated. Latencies are of single clips, one at a time, and 0 where they were not measured."""

    audio_seconds_per_second: float
    latency_p50_s: float
    latency_p95_s: float
    latency_clips: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundHeard:
    """What a model heard in one kind of sound without speech, or around speech."""

    kind: str  # silence, hum, white-noise, pink-noise, clicks or speech-in-silence
    recordings: int
    seconds: float  # without speech
    words: int  # that nobody said
    looped: int  # recordings whose text repeats itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Hallucination:
    """Words a minute of recordings in which nobody speaks; the interval is from a bootstrap over the recordings."""

    words_a_minute: Estimate
    sounds: tuple[SoundHeard, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LongForm:
    """Clips joined into long recordings, beside the same clips alone.

    ``loss`` is the WER joined minus the WER alone. ``clips_found`` is the share of the clips of whose words, as heard alone,
    at least half were heard in order at their place. ``timestamp_error_s`` is the median distance between where a clip
    begins or ends and where its first word was heard to begin or its last to end.
    """

    recordings: int
    seconds: float
    clips: int
    wer: Estimate
    wer_alone: Estimate
    loss: Difference
    clips_found: float
    timestamp_error_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortContext:
    """The shortest clips, encoded as the package says and at 30 s; ``loss`` is the first WER minus the second."""

    clips: int
    wer: Estimate
    wer_full: Estimate
    loss: Difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """A second dataset, on which the candidate should not have become worse than the model that it was trained from."""

    dataset_fingerprint: str
    language: str
    clips: int
    base_uri: str
    base_sha256: str
    candidate: Estimate
    base: Estimate
    loss: Difference


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelScore:
    """One model on the split. What was not measured is None.

    ``hypotheses`` must equal the evaluation's ``clips``: a model that skipped clips was not measured.
    ``looped`` counts the clips whose text repeats itself.
    """

    uri: str
    package_sha256: str
    hypotheses: int
    looped: int
    rates: dict[str, ErrorRates]  # by protocol
    speed: Speed
    hallucination: Hallucination | None = None
    long_form: LongForm | None = None
    short_context: ShortContext | None = None

    @property
    def wer(self) -> Estimate:
        return self.rates[NORMALISED].wer

    @property
    def cer(self) -> Estimate:
        return self.rates[NORMALISED].cer


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The clips that share something, as ``kind`` duration and ``name`` "2 to 4 s". WER is normalised."""

    kind: str  # duration, gender, age or source
    name: str
    clips: int
    speakers: int
    reference_words: int
    candidate: Estimate
    baseline: Estimate
    difference: Difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Candidate, baseline and others on the same clips, through the engine that serves.

    ``wer_difference`` is candidate minus baseline; ``resampled`` names the unit of all intervals: ``speakers``, or ``clips``
    where speakers are unknown or too few. ``worst_slice`` is (kind, name) of the slice in which the candidate's WER is
    highest, of those with enough clips; None where no slice has. ``clips_sha256`` is the digest of the per-clip results.
    """

    dataset_fingerprint: str
    split: str
    language: str
    normaliser: str
    clips: int
    hours: float
    speakers: int
    resampled: str
    resamples: int
    confidence: float
    candidate: ModelScore
    baseline: ModelScore
    wer_difference: Difference
    engine: str
    machine: str
    others: tuple[ModelScore, ...] = ()
    slices: tuple[Slice, ...] = ()
    worst_slice: tuple[str, str] | None = None
    retention: Retention | None = None
    clips_sha256: str = ""
    version: int = RESULT_VERSION

    @property
    def models(self) -> tuple[ModelScore, ...]:
        """Baseline, candidate, others."""
        return (self.baseline, self.candidate, *self.others)
