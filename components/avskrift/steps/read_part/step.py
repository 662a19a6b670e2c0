"""read_part: one share of the recordings is read, checked and encoded, for prepare to merge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from avskrift.corpus.merge import salt_check
from avskrift.corpus.parts import DESCRIPTION_FILE, Part, write_part
from avskrift.corpus.sources.uris import parse_sources
from avskrift.corpus.staging import Share
from avskrift.errors import UsageError
from avskrift.steps.prepare import step as preparing
from avskrift.storage.atomic import atomic_folder, refuse_to_replace
from avskrift.text.normaliser import normaliser_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Part ``part`` of ``of``, counted from 0, of what ``prepare`` describes; its ``out`` is where the part is written."""

    prepare: preparing.Config
    part: int = 0
    of: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The part's folder and how many batches it holds."""

    folder: Path
    batches: int


def run(config: Config) -> Result:
    """Write the folder ``config.prepare.out``. A run that was stopped is taken up where it was.

    Raises:
        UsageError, LanguageError, SourceError, DiskFullError, StorageError: as :func:`avskrift.steps.prepare.step.run`.
    """
    if not 0 <= config.part < config.of:
        raise UsageError(f"part {config.part} of {config.of} is none; parts are counted from 0")
    rules = preparing.check(config.prepare)
    out = preparing.output_folder(config.prepare.out, sources=config.prepare.source)
    refuse_to_replace(out, unless=DESCRIPTION_FILE)
    sources = parse_sources(config.prepare.source, language=rules.language, validated_remainder=config.prepare.validated_remainder)
    share = Share(part=config.part, of=config.of)
    with preparing.working(config.prepare, rules, share_of=share) as work:
        staged = preparing.stage_share(work, sources, config.prepare, rules, share=share)
        part = Part(
            share=share,
            batches=[stem.name for stem in staged.stems],
            entries_sha256=staged.entries_sha256,
            origins=preparing.origins(sources),
            language=rules.language,
            normaliser=normaliser_version(rules.language),
            speaker_salt_check=salt_check(rules.speaker_salt),
        )
        with atomic_folder(out) as folder:
            write_part(folder, part, staged.stems)
    return Result(folder=out, batches=len(staged.stems))
