"""``README.md`` of a dataset folder: a dataset card, whose head the Hugging Face hub and `datasets` read."""

from __future__ import annotations

import json
from collections.abc import Mapping

from avskrift.corpus.dataset import DESCRIPTION_FILE, REJECTED_FILE, REPORT_FILE, SPLITS, Dataset, DatasetDescription, SourceSummary
from avskrift.corpus.statistics import left_out
from avskrift.text.languages import LANGUAGES

_HUB_LICENCES = {  # the hub's own names, by how a licence begins in SPDX
    "CC0-1.0": "cc0-1.0",
    "CC-BY-4.0": "cc-by-4.0",
    "CC-BY-SA-4.0": "cc-by-sa-4.0",
    "CC-BY-NC-4.0": "cc-by-nc-4.0",
    "Apache-2.0": "apache-2.0",
    "MIT": "mit",
}
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


def render_card(dataset: Dataset) -> str:
    """The card as Markdown with a YAML head.

    Raises:
        DatasetError: ``rejected.parquet`` cannot be read.
    """
    description = dataset.description
    language = LANGUAGES.get(description.language, description.language).capitalize()
    return f"""---
{_head(description, language)}---

# {language} speech with transcripts

{_summary(description)}

| split | clips | hours | speakers |
|---|---:|---:|---:|
{_splits(description)}
## Dataset structure

Each row is one clip:

| column | holds |
|---|---|
| `clip_id` | its name, unique here |
| `audio` | `bytes`: a FLAC file, 16 kHz, mono, 16 bits; `path`: a name for it |
| `duration_s` | how long it lasts, in seconds |
| `text` | the transcript, with case and punctuation |
| `speaker_id` | a salted hash; empty where the source does not say who speaks |
| `gender`, `age`, `accent` | in the source's own words; empty where it does not say |
| `source` | where in the source the recording is |
| `weight` | how often an epoch of training should meet the clip: 2 is twice, 0.5 every other time |

`{DESCRIPTION_FILE}` describes the whole, `{REPORT_FILE}` shows it.

With `datasets`, which needs no audio decoder to read the bytes:

```python
from datasets import load_dataset

clips = load_dataset("path/to/this/folder", split="train")
```

With Avskrift, which also decodes them:

```python
from pathlib import Path

from avskrift.corpus.dataset import open_dataset

for clip in open_dataset(Path("path/to/this/folder")).clips("train"):
    samples = clip.samples()  # float32, 16 kHz
```

## Dataset creation

`avskrift prepare` read the sources, decoded every recording to 16 kHz mono, checked it beside its transcript, and gave it a split such
that no speaker who is known and no sentence stands in two of them. Sentences are compared with normaliser `{description.normaliser}`.

### Source data

| source | licence | weight | clips | hours | left out |
|---|---|---:|---:|---:|---:|
{_sources(description)}
### What was left out

{_left_out(left_out(dataset))}

### Personal and sensitive information

A voice is personal data, whatever its speaker is called. Names were replaced by salted hashes; gender, age and accent are kept where the
source states them, and transcripts may name people. Keep to the terms under which the speakers were recorded, and do not try to find
out who they are.

## Bias, risks and limitations

A model learns the voices, accents and subjects that are here and does worse on others; `{REPORT_FILE}` shows whose they are. A word error
rate measured on the test split says nothing of recordings of another kind.

## Provenance

- fingerprint of the clips: `{description.fingerprint}`
- sha256 of the sources: `{description.source_sha256}`
- speaker ids can be compared with those of datasets whose salt also checks as `{description.speaker_salt_check}`
"""


def _head(description: DatasetDescription, language: str) -> str:
    """What machines read. JSON strings are YAML strings, whatever they hold."""
    files = "".join(
        f"      - split: {split}\n        path: {split}-*.parquet\n"
        for split in SPLITS
        if split in description.splits and description.splits[split].clips
    )
    clips = sum(split.clips for split in description.splits.values())
    return (
        f"pretty_name: {json.dumps(f'{language} speech with transcripts')}\n"
        f"language:\n  - {json.dumps(description.language)}\n"
        f"{_licence(description)}"
        f"size_categories:\n  - {next((name for limit, name in _SIZES if clips < limit), 'n>10M')}\n"
        "task_categories:\n  - automatic-speech-recognition\n"
        "tags:\n  - audio\n  - speech\n  - whisper\n"
        f"configs:\n  - config_name: default\n    data_files:\n{files}"
    )


def _licence(description: DatasetDescription) -> str:
    """The hub's name of the licence where it has one; else ``other`` with the words of the source."""
    licences = {source.licence for source in description.sources} or {description.licence}
    known = {_HUB_LICENCES.get(licence.split(" ")[0]) for licence in licences}
    if len(known) == 1 and None not in known:
        return f"license: {known.pop()}\n"
    return f"license: other\nlicense_name: {json.dumps(description.licence, ensure_ascii=False)}\n"


def _summary(description: DatasetDescription) -> str:
    clips = sum(split.clips for split in description.splits.values())
    hours = sum(split.hours for split in description.splits.values())
    return (
        f"{clips:,} clips, {hours:,.2f} hours, written by `avskrift prepare` for fine-tuning and evaluating speech recognition, from "
        f"{_code(description.source)}. Licence: {_code(description.licence)}."
    )


def _splits(description: DatasetDescription) -> str:
    return "".join(
        f"| {split} | {summary.clips:,} | {summary.hours:,.2f} | {f'{summary.speakers:,}' if summary.speakers else 'unknown'} |\n"
        for split, summary in description.splits.items()
    )


def _sources(description: DatasetDescription) -> str:
    def row(source: SourceSummary) -> str:
        figures = f"{source.weight:g} | {source.clips:,} | {source.hours:,.2f} | {source.rejected:,}"
        return f"| {_code(source.uri)} | {_code(source.licence)} | {figures} |\n"

    return "".join(map(row, description.sources))


def _left_out(codes: Mapping[str, int]) -> str:
    if not codes:
        return "Nothing."
    rows = "".join(f"| {_code(code)} | {clips:,} |\n" for code, clips in sorted(codes.items(), key=lambda one: (-one[1], one[0])))
    return (
        f"{sum(codes.values()):,} clips, each with its reason in `{REJECTED_FILE}`. Codes that begin with `sentence_in_` or "
        f"`speaker_in_`, and `excluded`, are no faults: these clips were held back so that the splits share nothing.\n\n"
        f"| code | clips |\n|---|---:|\n{rows}"
    ).rstrip("\n")


def _code(value: str) -> str:
    """``value`` as inline code, on one line, in one cell of a table, and unable to end either."""
    return f"`{' '.join(value.replace('`', ' ').replace('|', ' ').split()) or '–'}`"
