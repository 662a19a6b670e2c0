"""The model card, generated: a package's README.md, and the same with the figures of an evaluation beside a run's artifacts."""

from __future__ import annotations

import json
from collections.abc import Sequence

from avskrift.audio.constants import FRAMES_PER_SECOND
from avskrift.logs import redact
from avskrift.text.languages import LANGUAGES
from avskrift.whisper.package import EncoderContext, PackageDescription, RoundTrip

_NOT_MEASURED = (
    "A package is made before it is measured, so no figure is in here. Its word error rate, with interval and protocol, is in "
    "`evaluation.json` and `report.html` among the artifacts of the MLflow run that registered it or turned it away; the version's tag "
    "`avskrift.package_sha256` says that it is this package."
)

_VERIFY = (
    "`model.json` holds the sha256 of every file, and of itself. Avskrift checks them before it loads a weight; do the same: "
    "`avskrift.whisper.package.open_package(Path(FOLDER)).verify()`."
)


def model_card(package: PackageDescription, evaluation: Sequence[str] = ()) -> str:
    """Markdown with the front matter that model hubs read.

    ``evaluation`` are the lines of the section on word error rates: each figure with its interval, its protocol (normaliser, split,
    dataset, engine) and what it is compared with. Without them the section says where the evaluation is recorded.
    """
    sections = {
        "How to call it": _calls(package),
        "Word error rate": "\n".join(evaluation) or _NOT_MEASURED,
        "Data": _data(package),
        "Encoder context": _context(package.encoder_context),
        "Conversion and arithmetic": _conversion(package),
        "Limits": _limits(package),
        "Licence": _licence(package),
        "Training": _training(package),
    }
    body = [f"## {name}\n\n{text}" for name, text in sections.items() if text]
    return "\n\n".join([_head(package), f"# {_title(package)}", _origin(package), _VERIFY, *body]) + "\n"


def _head(package: PackageDescription) -> str:
    lines = ["library_name: ctranslate2", "pipeline_tag: automatic-speech-recognition"]
    lines.append(f"base_model: {json.dumps(redact(package.base_model))}")
    if package.languages:
        lines.append(f"language: {json.dumps(list(package.languages))}")  # quoted: to YAML a bare no is false, not Norwegian
    return "\n".join(["---", *lines, "---"])


def _title(package: PackageDescription) -> str:
    return f"Whisper for {_spoken(package)}" if package.languages else "Whisper, packaged by Avskrift"


def _origin(package: PackageDescription) -> str:
    if not package.languages:
        return f"`{_plain(package.base_model)}`, not adapted. Packaged by Avskrift {package.code_version}."
    return (
        f"Fine-tuned for {', '.join(package.languages)} from `{_plain(package.base_model)}` by Avskrift {package.code_version}. "
        f"sha256 of the base model's files: `{package.base_model_sha256}`."
    )


def _calls(package: PackageDescription) -> str:
    language = package.languages[0] if package.languages else "en"
    return f"""`PACKAGE` is this folder, `recording.flac` a recording of 16 kHz, mono, at most 30 s; Avskrift takes other rates and lengths.

Avskrift, here or as an endpoint with OpenAI's route:

```sh
avskrift transcribe recording.flac --model PACKAGE --language {language}
avskrift serve --package PACKAGE --port 8085
curl -F file=@recording.flac -F language={language} http://127.0.0.1:8085/openai/v1/audio/transcriptions
```

`hf/` with `transformers`:

```python
import soundfile
from transformers import WhisperForConditionalGeneration, WhisperProcessor

samples, rate = soundfile.read("recording.flac", dtype="float32")
processor = WhisperProcessor.from_pretrained("PACKAGE/hf")
model = WhisperForConditionalGeneration.from_pretrained("PACKAGE/hf")
features = processor(samples, sampling_rate=rate, return_tensors="pt").input_features
tokens = model.generate(features, language="{language}", task="transcribe")
print(processor.batch_decode(tokens, skip_special_tokens=True)[0])
```

`ct2/` with `ctranslate2`:

```python
import ctranslate2
import soundfile
from transformers import WhisperProcessor

samples, rate = soundfile.read("recording.flac", dtype="float32")
processor = WhisperProcessor.from_pretrained("PACKAGE/hf")
model = ctranslate2.models.Whisper("PACKAGE/ct2", compute_type="int8")
features = processor(samples, sampling_rate=rate, return_tensors="np").input_features
prompt = ["<|startoftranscript|>", "<|{language}|>", "<|transcribe|>", "<|notimestamps|>"]
result = model.generate(ctranslate2.StorageView.from_array(features), [prompt])[0]
print(processor.decode(result.sequences_ids[0], skip_special_tokens=True))
```

The folder as it is, or a version of it in the registry, with `mlflow`, where `avskrift[serving]` is installed too:

```python
from pathlib import Path

import mlflow

model = mlflow.pyfunc.load_model("PACKAGE")
print(model.predict(Path("recording.flac"))[0])
```"""


def _data(package: PackageDescription) -> str:
    if not package.dataset_fingerprint:
        return "None of Avskrift's: the base model as it was published."
    lines = [f"Fine-tuned on the train split of the dataset with fingerprint `{package.dataset_fingerprint}`."]
    if package.dataset is None:
        return "\n".join([*lines, "Its card is among the artifacts of the MLflow run."])
    hours = ", ".join(f"{split} {hours:.2f} h" for split, hours in package.dataset.hours.items())
    source, licence = _plain(package.dataset.source), _plain(package.dataset.licence)
    return "\n".join([*lines, "", f"- source: {source}", f"- licence: {licence or 'unknown'}", f"- hours: {hours}"])


def _context(context: EncoderContext) -> str:
    if context.policy == "full":
        return "Always 30 s: this model was not adapted to shorter input and falls apart on it."
    step, least = context.multiple_frames / FRAMES_PER_SECOND, context.minimum_frames / FRAMES_PER_SECOND
    return (
        f"As long as the clip, in steps of {step:.1f} s, at least {least:.1f} s: it was trained on windows of mixed length. "
        "Padded to 30 s, as `transformers` pads, it works too."
    )


def _conversion(package: PackageDescription) -> str:
    heads = ", ".join(f"{layer}.{head}" for layer, head in package.alignment_heads)
    lines = [
        f"`hf/` holds the weights as they were trained; `ct2/` holds them in {package.quantisation}. Avskrift's engine computes in int8 on"
        " a CPU and in float16 on a GPU, so the two may hear an unclear word differently; an evaluation names the arithmetic that"
        " it measured.",
        _round_trip(package.round_trip),
    ]
    if heads:
        lines.append(f"Word timestamps are read from these attention heads (layer.head): {heads}.")
    return "\n\n".join(lines)


def _round_trip(result: RoundTrip | None) -> str:
    if result is None:
        return "The two were not compared on speech."
    return (
        f"Of {result.words} words that `transformers` wrote of {result.clips} clips, CTranslate2 wrote {result.different} differently "
        "(in float32, both from weights rounded to what `ct2/` holds)."
    )


def _limits(package: PackageDescription) -> str:
    lines = [
        "Its word error rate is known only for the test split that it was measured on; other voices, rooms and subjects may be much worse.",
        "Like every Whisper it may write words that nobody said, most of all in silence and noise, and may repeat itself.",
        "It leaves out hesitations and slips of the tongue, and punctuates as its training texts did.",
        "It does not tell speakers apart. Word timestamps are estimates.",
        "What it writes is not fit to decide about a person without somebody who listens.",
    ]
    if package.languages:
        lines.insert(1, f"Languages other than {', '.join(package.languages)}, and translation, may be worse than in the base model.")
    return "\n".join(f"- {line}" for line in lines)


def _licence(package: PackageDescription) -> str:
    weights = (
        f"The weights derive from `{_plain(package.base_model)}` and stay under its licence; OpenAI published its Whisper models under "
        "MIT, and on the Hugging Face hub under Apache-2.0."
    )
    if package.dataset and package.dataset.licence:
        return f"{weights} The training data are under {_plain(package.dataset.licence)}."
    return f"{weights} Whether the training data ask for more, their own licence says." if package.languages else weights


def _training(package: PackageDescription) -> str:
    if not package.training:
        return ""
    rows = [f"| {name} | {_plain(str(value))} |" for name, value in sorted(package.training.items())]
    return "\n".join(["| parameter | value |", "|---|---|", *rows])


def _spoken(package: PackageDescription) -> str:
    return " and ".join(LANGUAGES.get(code, code).capitalize() for code in package.languages)


def _plain(text: str) -> str:
    """Without what ends a line, a cell or a code span, and without secrets that a URI may hold."""
    return " ".join(redact(text).replace("|", "\\|").replace("`", "'").split())
