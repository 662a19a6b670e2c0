"""The boxes of an MP4 file: everything but one track of sound is hidden before FFmpeg gets to see it.

FFmpeg gets far more out of an MP4 file than its sound (pictures, subtitles, chapters, what lies in other files), and
believes its tables: a line of one can claim billions of packets.

Source: ISO/IEC 14496-12, sections 4.2 (boxes) and 8 (their order and content).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from avskrift.errors import AudioError, AudioTypeError

_Boxes: TypeAlias = "dict[bytes, _Boxes]"

# The boxes that sound needs, each with those that it needs in them. References to other files (dinf) are not among them.
_TABLES: _Boxes = {
    b"stsd": {b"mp4a": {b"esds": {}}, b"alac": {b"alac": {}}},
    **{name: {} for name in (b"stts", b"stsc", b"stsz", b"stz2", b"stco", b"co64")},
}
_TRACK: _Boxes = {b"tkhd": {}, b"edts": {b"elst": {}}, b"mdia": {b"mdhd": {}, b"hdlr": {}, b"minf": {b"stbl": _TABLES}}}
_FRAGMENT: _Boxes = {b"mfhd": {}, b"traf": {b"tfhd": {}, b"tfdt": {}, b"trun": {}}}
_FILE: _Boxes = {
    b"ftyp": {},
    b"moov": {b"mvhd": {}, b"trak": _TRACK, b"mvex": {b"mehd": {}, b"trex": {}}},
    b"moof": _FRAGMENT,
    b"mdat": {},
}
_BEFORE_THE_FIRST_BOX = {b"stsd": 8, b"mp4a": 28, b"alac": 28}  # bytes of fixed content
_HIDDEN = b"skip"
_MOST_BOXES = 100_000  # two hours in pieces of half a second have them
_MOST_EDITS = 2  # a delay, and the sound after the encoder's own
_LONGEST_PACKET = 1 << 16  # samples; Apple writes 4096 into an ALAC packet, and FFmpeg makes room for 16 million
_MOST_ENTRIES = 3_000_000  # two hours at 192 kHz in packets of 1024 samples, each in two tables


def disarm(data: memoryview) -> None:
    """Rename, in place, the boxes of an MP4 file that its sound does not need, to what every reader skips.

    Raises:
        AudioTypeError: it holds a video, no sound or several tracks of it, or sound that is neither AAC nor ALAC.
        AudioError: damaged, cut short, or with tables that cannot be true.
    """
    walk = _Walk(data)
    try:
        walk.visit(_FILE, b"", 0, len(data))
    except struct.error as error:
        raise damaged("a box too short for its content") from error
    if walk.indexes != 1:
        raise damaged("no index: cut short, or no recording" if not walk.indexes else "several indexes")
    if walk.sound_tracks != 1:
        raise AudioTypeError(
            f"the recording is an MP4 file with {walk.sound_tracks} tracks of sound, not one; export the one as M4A or FLAC"
        )


def damaged(what: str) -> AudioError:
    """The error for an MP4 file of which nothing can be made."""
    return AudioError(f"the recording is a damaged M4A file ({what}); export or record it again")


@dataclass(frozen=True, slots=True)
class _Box:
    name: bytes
    start: int
    content: int
    end: int


@dataclass(slots=True)
class _Walk:
    data: memoryview
    boxes: int = 0
    indexes: int = 0
    sound_tracks: int = 0
    entries: int = 0
    handlers: set[bytes] = field(default_factory=set)  # of the track at hand
    codecs: list[bytes] = field(default_factory=list)

    def visit(self, needed: _Boxes, inside: bytes, start: int, end: int) -> None:
        while start + 8 <= end:
            box = self._box(start, end, outermost=not inside)
            if inside == b"stsd":
                self.codecs.append(box.name)
            if box.name not in needed:
                self._hide(box)
            elif box.name == b"trak":
                self._track(box)
            else:
                self._note(box, inside)
                if needed[box.name]:
                    self.visit(needed[box.name], box.name, box.content + _BEFORE_THE_FIRST_BOX.get(box.name, 0), box.end)
            start = box.end

    def _box(self, at: int, end: int, *, outermost: bool) -> _Box:
        self.boxes += 1
        if self.boxes > _MOST_BOXES:
            raise damaged(f"more than {_MOST_BOXES} boxes")
        size, name = struct.unpack_from(">I4s", self.data, at)
        content = at + 8
        if size == 1:
            size, content = struct.unpack_from(">Q", self.data, content)[0], content + 8
        elif size == 0 and outermost:
            size = end - at
        if at + size > end and outermost:
            raise AudioError(f"the recording is cut short: {at + size - end} bytes fewer than its header promises; copy or record it again")
        if not content - at <= size <= end - at:
            raise damaged("a box that ends outside of its place")
        return _Box(name, at, content, at + size)

    def _track(self, box: _Box) -> None:
        self.handlers, self.codecs = set(), []
        self.visit(_TRACK, box.name, box.content, box.end)
        if b"vide" in self.handlers:
            raise AudioTypeError("the recording is a video; extract its sound, as M4A or FLAC")
        if self.handlers != {b"soun"}:
            self._hide(box)
            return
        self.sound_tracks += 1
        if len(self.codecs) != 1 or self.codecs[0] not in _TABLES[b"stsd"]:
            names = ", ".join(repr(name.decode("ascii", "replace")) for name in self.codecs[:3]) or "nothing known"
            raise AudioTypeError(f"the recording is an MP4 file with sound as {names}, not AAC or ALAC; export it as M4A or FLAC")

    def _note(self, box: _Box, inside: bytes) -> None:
        match box.name:
            case b"moov":
                self.indexes += 1
            case b"hdlr":
                self.handlers.add(bytes(self.data[box.content + 8 : box.content + 12]))
            case b"mp4a" | b"alac" if inside == b"stsd" and self._number(box.content + 8) >> 16:
                raise AudioTypeError("the recording is a QuickTime file; export its sound as M4A or FLAC")
            case b"alac" if inside == b"alac" and self._number(box.content + 4) > _LONGEST_PACKET:
                raise damaged("packets of impossible length")
            case b"elst" if self._number(box.content + 4) > _MOST_EDITS:
                raise damaged(f"put together from more than {_MOST_EDITS} pieces")
            case b"stsz" | b"stz2":
                self._claim(self._number(box.content + 8))
            case b"trun":
                self._claim(self._number(box.content + 4))
            case b"stts":
                content = bytes(self.data[box.content + 8 : box.end])  # a copy: the file cannot be closed while an array looks into it
                pairs = np.frombuffer(content[: len(content) // 8 * 8], dtype=">u4")
                self._claim(int(pairs[::2].sum(dtype=np.uint64)))

    def _claim(self, packets: int) -> None:
        self.entries += packets
        if self.entries > min(_MOST_ENTRIES, 2 * len(self.data)):
            raise damaged("its tables claim more than it can hold")

    def _number(self, at: int) -> int:
        return int(struct.unpack_from(">I", self.data, at)[0])

    def _hide(self, box: _Box) -> None:
        self.data[box.start + 4 : box.start + 8] = _HIDDEN
