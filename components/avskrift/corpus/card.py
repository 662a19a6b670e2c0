"""``README.md`` of a dataset folder: a dataset card, whose head the Hugging Face hub and `datasets` read."""

from __future__ import annotations

import json

from avskrift.corpus.dataset import REJECTED_FILE, REPORT_FILE, SPLITS, DatasetDescription
from avskrift.text.languages import LANGUAGES


def render_card(description: DatasetDescription) -> str:
    """The card as Markdown with a YAML head. JSON strings are YAML strings, whatever they hold."""
    files = "".join(f"      - split: {split}\n        path: {split}-*.parquet\n" for split in SPLITS)
    rows = "".join(
        f"| {split} | {summary.clips:,} | {summary.hours:.2f} | {summary.speakers or 'unknown'} |\n"
        for split, summary in description.splits.items()
    )
    language = LANGUAGES.get(description.language, description.language).capitalize()
    return f"""---
language:
  - {json.dumps(description.language)}
license: other
license_name: {json.dumps(description.licence, ensure_ascii=False)}
task_categories:
  - automatic-speech-recognition
configs:
  - config_name: default
    data_files:
{files}---

# {language} speech with transcripts

Written by `avskrift prepare` from {_code(description.source)}. Licence: {_code(description.licence)}.

| split | clips | hours | speakers |
|---|---|---|---|
{rows}
{description.rejected:,} clips of the source were left out; `{REJECTED_FILE}` has each with its reason, `{REPORT_FILE}` a summary.

Each row is one clip: `clip_id`, `audio` (FLAC bytes, 16 kHz, mono), `duration_s`, `text`, `speaker_id` (a salted hash, or empty),
`gender`, `age`, `accent`, `source`. Sentences are compared with normaliser `{description.normaliser}`.

- fingerprint of the clips: `{description.fingerprint}`
- sha256 of the source: `{description.source_sha256}`

Speaker ids are hashes, but a voice is personal data all the same: keep to the terms under which it was recorded.
"""


def _code(value: str) -> str:
    """``value`` as inline code, on one line and unable to end it."""
    return f"`{' '.join(value.replace('`', ' ').split())}`"
