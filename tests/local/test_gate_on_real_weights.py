"""What the gate says of the real whisper-base where its package claims what the model never learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from evaluations import changed, evaluation

from avskrift.corpus.dataset import open_dataset
from avskrift.evaluation.gate import decide
from avskrift.evaluation.hallucination import measure_hallucination
from avskrift.evaluation.policy import Policy
from avskrift.evaluation.short_context import measure_short_context
from avskrift.evaluation.spoken_clip import SpokenClip
from avskrift.whisper.export import Provenance, export_package
from avskrift.whisper.package import EncoderContext, ModelPackage
from avskrift.whisper.transcriber import load_transcriber
from avskrift.whisper.transcript import Options

pytestmark = pytest.mark.weights

# The defaults. A model that the demo adapted passes both rules, or `make demo` ends without a promotion.
BOUNDS = Policy()


@pytest.fixture(scope="module")
def claims_short_contexts(whisper_base: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    provenance = Provenance(base_model="package:whisper-base", base_model_sha256="", encoder_context=EncoderContext(policy="variable"))
    return export_package(whisper_base, tmp_path_factory.mktemp("unadapted") / "package", provenance)


@pytest.fixture(scope="module")
def clips(tiny_dataset: Path) -> list[SpokenClip]:
    dataset = open_dataset(tiny_dataset)
    return [
        SpokenClip(clip_id=clip.clip_id, text=clip.text, speaker_id=clip.speaker_id, duration_s=clip.duration_s, samples=clip.samples())
        for split in ("test", "validation")
        for clip in dataset.clips(split)
    ]


def test_an_unadapted_model_is_refused_short_contexts_and_what_it_hears_around_speech(
    claims_short_contexts: ModelPackage, clips: list[SpokenClip]
) -> None:
    described = claims_short_contexts.description
    as_packaged = load_transcriber(claims_short_contexts, device="cpu")
    at_30_s = load_transcriber(
        replace(claims_short_contexts, description=replace(described, encoder_context=EncoderContext(policy="full"))), device="cpu"
    )
    heard = [transcript.text for transcript in as_packaged.transcribe([clip.samples for clip in clips], Options(language="sv"))]
    short = measure_short_context(clips, heard, at_30_s, language="sv")
    assert short is not None
    assert short.loss.value > 0
    assert not _passes("max_context_loss", "short_context", short)

    hallucination = measure_hallucination(as_packaged, language="sv", speech=clips)
    print(f"words a minute where nobody speaks: {hallucination.words_a_minute.value:.1f}; WER lost at short contexts: {short.loss}")
    assert not _passes("max_hallucinated_words", "hallucination", hallucination)


def _passes(rule: str, part: str, measured: object) -> bool:
    judged = changed(evaluation(), f"candidate.{part}", measured)
    decision = decide(judged, BOUNDS, package_sha256=judged.candidate.package_sha256, clips=[])
    (found,) = [result for result in decision.rules if result.name == rule]
    return found.passed
