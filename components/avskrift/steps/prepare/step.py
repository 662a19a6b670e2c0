"""prepare: a source of recordings with transcripts becomes a dataset folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from avskrift import logs
from avskrift.corpus.build import Rules, build, member_of
from avskrift.corpus.dataset import DESCRIPTION_FILE, REPORT_FILE, SPLITS, SplitSummary, open_dataset
from avskrift.corpus.entries import Entry, Source, identified
from avskrift.corpus.sources import UNDERSTOOD, parse_source
from avskrift.corpus.splits import assign, subset
from avskrift.corpus.validation import MAX_SECONDS, Code
from avskrift.errors import DatasetError, SourceError, StorageError, UsageError
from avskrift.storage.atomic import atomic_file, atomic_folder, sweep
from avskrift.text.languages import check_language

# Fixed, so that a speaker has the same id in every dataset; an organisation that must not link them gives its own.
SPEAKER_SALT = "avskrift-speaker-1"

SAMPLE_FILE = "clip.flac"

_log = logs.Log("prepare")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What to prepare.

    ``on_missing``: a recording without its transcript, or the reverse, fails the step or is skipped (and recorded).
    ``max_rejected``: the share of refused clips above which the step fails. ``max_clips``: look at so many clips alone,
    always the same ones; 0 takes all.
    """

    source: str
    out: str | Path
    language: str = "sv"
    on_missing: str = "fail"
    max_rejected: float = 0.05
    max_clips: int = 0
    speaker_salt: str = SPEAKER_SALT


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The dataset folder and what it holds; ``rejected`` counts the clips left out by code."""

    dataset: Path
    fingerprint: str
    language: str
    splits: dict[str, SplitSummary]
    rejected: dict[Code, int]

    def metrics(self) -> dict[str, float]:
        """The figures for people who compare runs."""
        figures = {f"{split}_clips": float(summary.clips) for split, summary in self.splits.items()}
        figures |= {f"{split}_hours": summary.hours for split, summary in self.splits.items()}
        return figures | {"rejected_clips": float(sum(self.rejected.values()))}

    def copy_report(self, target: str | Path) -> None:
        """Copy the report to ``target``, a file: an HTML artifact of Kubeflow is one.

        Raises:
            DiskFullError, StorageError: it cannot be written.
        """
        with atomic_file(Path(target)) as temporary:
            shutil.copyfile(self.dataset / REPORT_FILE, temporary)

    def copy_sample(self, target: str | Path) -> None:
        """Write the first test clip as ``clip.flac`` into the folder ``target``: a recording to try an endpoint with.

        Raises:
            DatasetError: there is no test clip.
            DiskFullError, StorageError: it cannot be written.
        """
        for clip in open_dataset(self.dataset).clips("test"):
            with atomic_folder(Path(target)) as folder:
                (folder / SAMPLE_FILE).write_bytes(clip.audio)
            return
        raise DatasetError(f"{self.dataset}: no test clip to try an endpoint with; prepare more recordings")


def run(config: Config) -> Result:
    """Write the dataset folder ``config.out``; an older dataset there is replaced.

    Raises:
        UsageError: a parameter that cannot be used.
        LanguageError: a language that Whisper does not know.
        SourceError: the source cannot be understood, is not complete, or too much of it cannot be used.
        DiskFullError, StorageError: the folder cannot be written; nothing is left half written.
    """
    _check(config)
    language = check_language(config.language)
    out = Path(config.out)
    _refuse_to_replace(out)
    sweep(out.parent)
    source, entries = _listed(config, language)
    rules = Rules(language=language, max_rejected=config.max_rejected, speaker_salt=config.speaker_salt)
    chosen = _chosen(entries, rules, config.max_clips) if 0 < config.max_clips < len(entries) else entries
    _log.info("prepare.started", clips=len(chosen), language=language)
    with atomic_folder(out) as folder:
        built = build(folder, source, chosen, rules)
    description = built.description
    _log.info("prepare.written", fingerprint=description.fingerprint, rejected=description.rejected, **_counts(description.splits))
    return Result(dataset=out, fingerprint=description.fingerprint, language=language, splits=description.splits, rejected=built.rejected)


def check_source(source: str, *, language: str, on_missing: str = "fail") -> None:
    """Refuse what :func:`run` would refuse before it decodes anything, by looking at the source's list alone.

    Raises:
        LanguageError, SourceError, UsageError: as :func:`run`.
    """
    config = Config(source=source, out="", language=language, on_missing=on_missing)
    _check(config)
    _listed(config, check_language(language))


def _listed(config: Config, language: str) -> tuple[Source, Sequence[Entry]]:
    source = parse_source(config.source, language=language, max_seconds=MAX_SECONDS)
    return source, _complete(identified(source.entries()), config)


def _check(config: Config) -> None:
    if config.on_missing not in ("fail", "skip"):
        raise UsageError(f"--on-missing is {config.on_missing!r}; use fail or skip")
    if not 0 <= config.max_rejected <= 1:
        raise UsageError(f"--max-rejected is {config.max_rejected}; give a share between 0 and 1")
    if config.max_clips < 0 or 0 < config.max_clips < len(SPLITS):
        raise UsageError(f"--max-clips is {config.max_clips}; give at least {len(SPLITS)}, one for each split, or 0 for all")


def _refuse_to_replace(out: Path) -> None:
    """A folder is replaced whole: only one that prepare wrote, or an empty one, may be."""
    if out.exists() and not out.is_dir():
        raise StorageError(f"{out} is a file; give the dataset another folder")
    if out.is_dir() and any(out.iterdir()) and not (out / DESCRIPTION_FILE).is_file():
        raise StorageError(f"{out} holds files and is not a dataset, so it will not be replaced; give the dataset another folder")


def _complete(entries: Sequence[Entry], config: Config) -> Sequence[Entry]:
    """The entries, if there are any and their halves may be missing where they are."""
    if not entries:
        raise SourceError(f"source {config.source!r} holds no recordings with transcripts; give {UNDERSTOOD}")
    missing = [entry.missing for entry in entries if entry.missing]
    if missing and config.on_missing == "fail":
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise SourceError(f"source {config.source!r}: {missing[0]}{more}; add what is missing, or run with --on-missing skip")
    return entries


def _chosen(entries: Sequence[Entry], rules: Rules, clips: int) -> list[Entry]:
    """So many of the usable entries, something of each split, and with the splits that all of them would have."""
    members = [member_of(entry, rules.language, rules.speaker_salt) for entry in entries if not entry.missing]
    members = [member for member in members if member.sentence]
    splits = subset(members, assign(members).splits, clips)
    return [replace(entry, split=splits[entry.clip_id]) for entry in entries if entry.clip_id in splits]


def _counts(splits: dict[str, SplitSummary]) -> dict[str, int]:
    return {split: summary.clips for split, summary in splits.items()}
