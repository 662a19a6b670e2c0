"""prepare: sources of recordings with transcripts become a dataset folder."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import avskrift
from avskrift import logs
from avskrift.cores import available_cores
from avskrift.corpus.dataset import DESCRIPTION_FILE, REJECTED_FILE, REPORT_FILE, SPLITS, SplitSummary, open_dataset
from avskrift.corpus.exclusion import NOTHING, Excluded, excluded, opened
from avskrift.corpus.listing import choose, survey, walk
from avskrift.corpus.merge import CARD_FILE, Merged, MergeRules, Origin, merge, refuse_missing, salt_check
from avskrift.corpus.parts import read_parts
from avskrift.corpus.sources.uris import Weighted, absolute, local_places, parse_sources
from avskrift.corpus.splits import OnOverlap, assign
from avskrift.corpus.staging import WHOLE, Rules, Share, Staged, is_staged, stage
from avskrift.corpus.validation import Code
from avskrift.errors import BusyError, DatasetError, SourceError, StorageError, UsageError
from avskrift.storage.atomic import atomic_file, atomic_folder, make_folder, refuse_to_replace, sweep
from avskrift.storage.paths import home
from avskrift.text.languages import check_language
from avskrift.text.normaliser import normaliser_version

# Fixed, so that a speaker has the same id in every dataset; an organisation that must not link them gives its own.
SPEAKER_SALT = "avskrift-speaker-1"
SPEAKER_SALT_VARIABLE = "AVSKRIFT_SPEAKER_SALT"

SAMPLE_FILE = "clip.flac"
_CARD_FILES = (DESCRIPTION_FILE, REPORT_FILE, CARD_FILE)

_URI = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
_log = logs.Log("prepare")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What to prepare.

    ``source``: one source or several, joined by " + ", each with a weight if it has one. ``validated_remainder``: of Common
    Voice, also the validated clips that are in no split. ``on_missing``: a recording without its transcript, or the
    reverse, fails the step or is skipped (and recorded). ``on_overlap``: speakers, sentences or recordings that named
    splits share fail the step or are held back. ``max_rejected``: the share of refused clips above which the step fails.
    ``max_clips``: look at so many clips alone, always the same ones; 0 takes all. ``exclude``: a dataset whose validation and
    test speakers, sentences and recordings are kept out of train and validation; "" for none. ``workers``: decoding
    processes; 0 for as many as there are cores. ``parts``: folders that read_part wrote of the same sources; they are merged,
    and no recording is read.
    """

    source: str
    out: str | Path
    language: str = "sv"
    validated_remainder: bool = False
    on_missing: str = "fail"
    on_overlap: str = "fail"
    max_rejected: float = 0.05
    max_clips: int = 0
    exclude: str = ""
    workers: int = 0
    parts: Sequence[str | Path] = ()


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

    def copy_apart(self, *, sample: str | Path, card: str | Path, report: str | Path) -> None:
        """What steps and people need without the clips, each to a place of its own: a recording, what describes the dataset, the report.

        Raises:
            DatasetError, DiskFullError, StorageError: as the three below.
        """
        self.copy_sample(sample)
        self.copy_card(card)
        self.copy_report(report)

    def copy_report(self, target: str | Path) -> None:
        """Copy the report to ``target``, a file: an HTML artifact of Kubeflow is one.

        Raises:
            DiskFullError, StorageError: it cannot be written.
        """
        with atomic_file(Path(target)) as temporary:
            shutil.copyfile(self.dataset / REPORT_FILE, temporary)

    def copy_card(self, target: str | Path) -> None:
        """Copy what describes the dataset, without its clips, into the folder ``target``: dataset.json, report and card.

        Raises:
            DiskFullError, StorageError: it cannot be written.
        """
        with atomic_folder(Path(target)) as folder:
            for name in _CARD_FILES:
                shutil.copyfile(self.dataset / name, folder / name)

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

    A run that was stopped is taken up where it was: what it decoded is kept in the state folder until the dataset stands.

    Raises:
        UsageError: a parameter that cannot be used.
        LanguageError: a language that Whisper does not know.
        OverlapError: splits that the sources name share what they must not.
        DatasetError: parts that do not belong together.
        SourceError: a source cannot be understood, is not complete, or too much of it cannot be used.
        DiskFullError, StorageError: the folder cannot be written; nothing is left half written.
    """
    rules = check(config)
    out = output_folder(config.out, sources=config.source)
    _refuse_to_remove(out)
    kept_out = _kept_out(config, rules)
    if config.parts:
        batches, of = _of_parts(config, rules)
        return _merge_into(out, batches, of, _merge_rules(config, rules, kept_out))
    sources = parse_sources(config.source, language=rules.language, validated_remainder=config.validated_remainder)
    with working(config, rules, share_of=out) as work:
        staged = stage_share(work, sources, config, rules)
        return _merge_into(out, staged.stems, origins(sources), _merge_rules(config, rules, kept_out))


def check_source(
    source: str, *, language: str, on_missing: str = "fail", on_overlap: str = "hold-back", validated_remainder: bool = False
) -> None:
    """Refuse what :func:`run` would refuse before it decodes anything, by looking at the sources' lists alone.

    Raises:
        LanguageError, SourceError, UsageError: as :func:`run`.
    """
    config = Config(
        source=source, out="", language=language, on_missing=on_missing, on_overlap=on_overlap, validated_remainder=validated_remainder
    )
    rules = check(config)
    _complete(parse_sources(source, language=rules.language, validated_remainder=validated_remainder), config, rules)


def check_excluded(uri: str) -> None:
    """Refuse a dataset to exclude that is none.

    Raises:
        DatasetError: there is none.
    """
    opened(uri)


def output_folder(out: str | Path, *, sources: str) -> Path:
    """The folder to write, absolute, links followed, and its parent made; what a killed process left there is swept.

    Raises:
        UsageError: it is no path, or a source lies in it and would be removed with what it replaces.
        DiskFullError, StorageError: its parent cannot be made.
    """
    if _URI.match(str(out)):
        raise UsageError(f"--out {out} is no folder on this machine; give a path here, and copy the dataset from there")
    folder = Path(out).expanduser().resolve()
    inside = next((path for path in local_places(sources) if path.is_relative_to(folder)), None)
    if inside is not None:
        raise UsageError(f"--out {out} would replace the folder in which the source {inside} lies; name another folder to write")
    make_folder(folder.parent)
    sweep(folder.parent)
    return folder


def check(config: Config) -> Rules:
    """The rules by which each clip is read.

    Raises:
        LanguageError, UsageError: a parameter that cannot be used.
    """
    if config.on_missing not in ("fail", "skip"):
        raise UsageError(f"--on-missing is {config.on_missing!r}; use fail or skip")
    if config.on_overlap not in get_args(OnOverlap):
        raise UsageError(f"--on-overlap is {config.on_overlap!r}; use {' or '.join(get_args(OnOverlap))}")
    if not 0 <= config.max_rejected <= 1:
        raise UsageError(f"--max-rejected is {config.max_rejected}; give a share between 0 and 1")
    if config.max_clips < 0 or 0 < config.max_clips < len(SPLITS):
        raise UsageError(f"--max-clips is {config.max_clips}; give at least {len(SPLITS)}, one for each split, or 0 for all")
    if config.workers < 0:
        raise UsageError(f"--workers is {config.workers}; give a number of processes, or 0 for one on each core")
    salt = os.environ.get(SPEAKER_SALT_VARIABLE) or SPEAKER_SALT
    return Rules(language=check_language(config.language), speaker_salt=salt)


def stage_share(work: Path, sources: Sequence[Weighted], config: Config, rules: Rules, *, share: Share = WHOLE) -> Staged:
    """Read and check this share of the sources' entries into ``work``.

    Raises:
        SourceError: a source is not there, not understood, empty, or something is missing that must not be.
        DiskFullError, StorageError: ``work`` cannot be written.
    """
    total = _complete(sources, config, rules)
    chosen = choose(sources, rules, config.max_clips, on_overlap=_merge_rules(config, rules).on_overlap) if config.max_clips else None
    if chosen is not None:
        total = len(chosen)
    _log.info("prepare.started", clips="unknown" if total is None else total, language=rules.language, sources=len(sources))
    sweep(work)
    return stage(work, walk(sources, chosen), rules, workers=config.workers or available_cores(), total=total, share=share)


def origins(sources: Sequence[Weighted]) -> list[Origin]:
    """What the dataset says of its sources."""
    return [Origin(uri=weighted.source.uri.strip(), licence=weighted.source.licence, weight=weighted.weight) for weighted in sources]


@contextmanager
def working(config: Config, rules: Rules, *, share_of: object) -> Iterator[Path]:
    """The folder where what was decoded stands until its artifact does: the same for the same work, so that a stopped run goes on.

    It is removed at the end, unless that is an error and there is something to go on from. ``share_of`` tells apart runs
    that must not meet in one folder.

    Raises:
        BusyError: another process does the same work.
        DiskFullError, StorageError: it cannot be made.
    """
    work: list[object] = [absolute(config.source), rules.language, normaliser_version(rules.language), salt_check(rules.speaker_salt)]
    work += [config.max_clips, config.validated_remainder, str(share_of), avskrift.__version__]
    folder = home() / "prepare" / hashlib.sha256(json.dumps(work).encode()).hexdigest()[:16]
    make_folder(folder)
    with (folder / "lock").open("a") as lock:
        try:
            # The kernel drops the lock with the process, however it dies.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"{folder}: another process prepares the same; wait for it, or give this one another --out") from error
        try:
            yield folder
        except BaseException:
            if not any(is_staged(stem.with_suffix("")) for stem in folder.glob("*.parquet")):
                shutil.rmtree(folder, ignore_errors=True)  # there is nothing to go on from
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _merge_into(out: Path, batches: Sequence[Path], of: Sequence[Origin], rules: MergeRules) -> Result:
    """Write the dataset folder ``out`` from staged batches.

    Raises:
        OverlapError, SourceError, DiskFullError, StorageError: as :func:`run`.
    """
    with atomic_folder(out) as folder:
        merged: Merged = merge(folder, batches, of, rules)
    description = merged.description
    counts = {split: summary.clips for split, summary in description.splits.items()}
    _log.info("prepare.written", fingerprint=description.fingerprint, rejected=description.rejected, **counts)
    return Result(
        dataset=out,
        fingerprint=description.fingerprint,
        language=description.language,
        splits=description.splits,
        rejected=merged.rejected,
    )


def _merge_rules(config: Config, rules: Rules, kept_out: Excluded = NOTHING) -> MergeRules:
    """The rules by which the clips become a dataset."""
    return MergeRules(
        language=rules.language,
        speaker_salt=rules.speaker_salt,
        max_rejected=config.max_rejected,
        on_missing=config.on_missing,
        on_overlap="hold-back" if config.on_overlap == "hold-back" else "fail",
        excluded=kept_out,
    )


def _of_parts(config: Config, rules: Rules) -> tuple[list[Path], list[Origin]]:
    batches, of, part = read_parts([Path(folder) for folder in config.parts])
    ours = (rules.language, normaliser_version(rules.language), salt_check(rules.speaker_salt))
    if (part.language, part.normaliser, part.speaker_salt_check) != ours:
        raise DatasetError(
            f"{config.parts[0]}: was read with another language, normaliser or speaker salt; read the parts again with the same parameters"
        )
    return batches, of


def _kept_out(config: Config, rules: Rules) -> Excluded:
    if not config.exclude.strip():
        return NOTHING
    return excluded(config.exclude.strip(), language=rules.language, speaker_salt_check=salt_check(rules.speaker_salt))


def _refuse_to_remove(out: Path) -> None:
    """An older dataset is replaced whole, but nothing that somebody else put into its folder."""
    refuse_to_replace(out, unless=DESCRIPTION_FILE)
    ours = re.compile("|".join([*map(re.escape, (*_CARD_FILES, REJECTED_FILE)), rf"({'|'.join(SPLITS)})-\d{{5}}\.parquet"]))
    other = next((path.name for path in sorted(out.glob("*")) if not ours.fullmatch(path.name)), None)
    if other is not None:
        raise StorageError(f"{out} holds {other!r}, which prepare did not write and would remove; move it, or name another folder to write")


def _complete(sources: Sequence[Weighted], config: Config, rules: Rules) -> int | None:
    """How many entries are listed, if something is and nothing is missing that must not be; None where only reading tells."""
    listing = survey(sources, rules)
    if listing.entries == 0:
        raise SourceError(f"source {config.source!r} holds no recordings with transcripts; check that it is what you meant")
    if config.on_missing == "fail":
        refuse_missing(listing.missing)
    if listing.members:
        try:
            assign(listing.members, on_overlap=_merge_rules(config, rules).on_overlap)
        except SourceError as error:
            raise type(error)(f"source {config.source!r}: {error}") from error
    return listing.entries
