"""Invariants of splits and of prepare, over any source."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import soundfile as sf
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from avskrift.audio.constants import SAMPLE_RATE
from avskrift.corpus.dataset import SPLITS, open_dataset
from avskrift.corpus.splits import Member, assign, subset
from avskrift.errors import SourceError
from avskrift.steps.prepare.step import Config, run

KINDS = ("good", "good", "good", "cut", "text", "nothing", "silence", "copy", "no words", "no transcript", "gone")


@st.composite
def sources(draw: st.DrawFn) -> list[Member]:
    """Clips of some speakers (some unknown) saying some sentences."""
    speaker = st.integers(0, draw(st.integers(0, 30))).map(lambda number: f"s{number}" if number else "")
    sentence = st.integers(0, draw(st.integers(0, 60))).map("mening {}".format)
    clips = draw(st.lists(st.tuples(speaker, sentence), min_size=1, max_size=80))
    return [Member(clip_id=f"c{at}", split="", speaker_id=who, sentence=what) for at, (who, what) in enumerate(clips)]


@given(sources(), st.randoms(use_true_random=False))
def test_drawn_splits_share_no_speaker_and_no_sentence_and_lose_no_clip(members: list[Member], shuffle: random.Random) -> None:
    try:
        assignment = assign(members)
    except SourceError:
        assume(False)
    assert set(assignment.splits) | set(assignment.held_back) == {member.clip_id for member in members}
    assert not set(assignment.splits) & set(assignment.held_back)
    assert set(assignment.splits.values()) == set(SPLITS)
    kept = [(member, assignment.splits[member.clip_id]) for member in members if member.clip_id in assignment.splits]
    _assert_separate([(member.sentence, split) for member, split in kept])
    if len({member.speaker_id for member in members} - {""}) > 1:
        _assert_separate([(member.speaker_id, split) for member, split in kept if member.speaker_id])
    shuffled = list(members)
    shuffle.shuffle(shuffled)
    assert assign(shuffled) == assignment


@given(st.integers(3, 60), st.integers(1, 5))
def test_three_groups_that_share_no_sentence_can_always_be_split(groups: int, clips: int) -> None:
    members = [Member(clip_id=f"{g}-{c}", split="", speaker_id=f"s{g}", sentence=f"{g} {c}") for g in range(groups) for c in range(clips)]
    assignment = assign(members)
    assert set(assignment.splits.values()) == set(SPLITS)
    assert not assignment.held_back


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2), st.integers(0, 40)), max_size=80), st.randoms(use_true_random=False))
def test_recordings_whose_speakers_are_their_own_are_never_in_two_splits(clips: list[tuple[int, int, int]], shuffle: random.Random) -> None:
    members = [
        Member(
            clip_id=f"c{at}",
            split="",
            speaker_id=f"s{recording}-{speaker}" if speaker else "",
            sentence=f"mening {sentence}",
            location=f"{recording}.wav#t={at},{at + 1}",
            recording=f"r{recording}",
        )
        for at, (recording, speaker, sentence) in enumerate(clips)
    ]
    assume(len({member.recording for member in members}) >= len(SPLITS))
    try:
        assignment = assign(members)
    except SourceError:
        assume(False)
    _assert_separate([(member.recording, split) for member in members if (split := assignment.splits.get(member.clip_id))])
    assert not any(code.startswith("recording") for code in assignment.held_back.values())
    shuffled = list(members)
    shuffle.shuffle(shuffled)
    assert assign(shuffled) == assignment


@given(sources(), st.integers(3, 100))
def test_a_subset_has_something_of_each_split_and_grows_by_adding(members: list[Member], clips: int) -> None:
    try:
        splits = assign(members).splits
    except SourceError:
        assume(False)
    chosen = subset(members, splits, clips)
    assert len(chosen) == min(clips, len(splits))
    assert set(chosen.values()) == set(SPLITS)
    assert chosen.items() <= splits.items()
    assert chosen.items() <= subset(members, splits, clips + 1).items()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=14), st.randoms(use_true_random=False), st.integers(0, 4))
@example(["good"] * 10, random.Random(0), 0)
@example(list(KINDS), random.Random(1), 4)
def test_clips_in_are_clips_out_and_rejected_in_any_order(kinds: list[str], shuffle: random.Random, speakers: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [_make(folder, number, kind, speakers) for number, kind in enumerate(kinds)]
        try:
            results = []
            for out in ("one", "two"):
                (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
                results.append(run(Config(source=str(folder / "manifest.jsonl"), out=folder / out, on_missing="skip", max_rejected=1.0)))
                shuffle.shuffle(lines)
        except SourceError:
            assert not (folder / "one").exists()
            return
        kept = [clip.clip_id for split in SPLITS for clip in open_dataset(folder / "one").clips(split)]
        rejected = [row["clip_id"] for row in pq.read_table(folder / "one" / "rejected.parquet").to_pylist()]
        assert len(set(kept) | set(rejected)) == len(kept) + len(rejected) == len(kinds)
        assert len(rejected) == sum(results[0].rejected.values())
        assert results[0].fingerprint == results[1].fingerprint
        assert results[0].splits == results[1].splits
        assert results[0].rejected == results[1].rejected


def _assert_separate(pairs: Sequence[tuple[str, str]]) -> None:
    assert len(set(pairs)) == len({value for value, _ in pairs})


def _make(folder: Path, number: int, kind: str, speakers: int) -> dict[str, str | None]:
    path = folder / f"{number}.wav"
    seed = 0 if kind == "copy" else number + 1
    samples = np.random.default_rng(seed).integers(-9000, 9000, SAMPLE_RATE, dtype=np.int16)
    sf.write(path, samples * (kind != "silence"), SAMPLE_RATE)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif kind in ("text", "nothing"):
        path.write_bytes(b"hello" if kind == "text" else b"")
    elif kind == "gone":
        path.unlink()
    text = {"no words": "?", "no transcript": None}.get(kind, f"mening {number % 10}")
    return {"path": path.name, "text": text, "speaker": f"s{number % speakers}" if speakers else ""}
