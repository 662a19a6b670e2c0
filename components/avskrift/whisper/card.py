"""The model card, generated: a package's README.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from avskrift.whisper.package import EncoderContext

_POLICIES = {
    "full": "Always 30 s: this model was not adapted to shorter input and falls apart on it.",
    "variable": "As long as the clip, in steps of {step:.1f} s, at least {least:.1f} s: it was trained on windows of mixed length.",
}


def model_card(
    base_model: str, languages: Sequence[str], context: EncoderContext, dataset_fingerprint: str, training: Mapping[str, Any]
) -> str:
    """Markdown with the front matter that model hubs read."""
    front = ["---", "library_name: ctranslate2", "pipeline_tag: automatic-speech-recognition", f"base_model: {json.dumps(base_model)}"]
    if languages:
        front.append(f"language: {json.dumps(list(languages))}")  # quoted: to YAML a bare no is false, not Norwegian
    policy = _POLICIES[context.policy].format(step=context.multiple_frames / 100, least=context.minimum_frames / 100)
    adapted = f"Fine-tuned for {', '.join(languages)} from `{base_model}`." if languages else f"`{base_model}`, not adapted."
    lines = [
        *front,
        "---",
        "",
        "# Whisper, packaged by Avskrift",
        "",
        adapted,
        "",
        "| folder | loads with |",
        "|---|---|",
        "| `hf/` | `transformers.WhisperForConditionalGeneration.from_pretrained` |",
        "| `ct2/` | `ctranslate2.models.Whisper` |",
        "",
        "`model.json` holds the sha256 of every file; verify them before loading.",
        "",
        "## Encoder context",
        "",
        policy,
        "",
        "## Limits",
        "",
        "Its word error rate is known only for the test split it was evaluated on; see the evaluation beside the registered version.",
    ]
    if dataset_fingerprint:
        lines += ["", "## Training", "", f"Dataset fingerprint `{dataset_fingerprint}`.", ""]
        lines += ["| parameter | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in sorted(training.items()))]
    return "\n".join(lines) + "\n"
