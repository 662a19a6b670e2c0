"""A transcript as server-sent events while it is made.

Events of OpenAI's API: ``transcript.text.delta`` (``delta``), ``transcript.text.done`` (``text``). With ``verbose_json`` also
``transcript.text.segment`` (``id``, ``start``, ``end``, ``text``), and ``done`` has all that the format has without streaming. A
failure after the first event is the last event: ``error``, in the shape that an answer would have had.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from typing import Any

from fastapi.responses import StreamingResponse

from avskrift.serving.answers import answer_to
from avskrift.serving.formats import Format, Granularity, render
from avskrift.whisper.transcript import Segment, Task, Transcript

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # proxies pass each event on at once


async def answer(
    heard: AsyncGenerator[Segment | Transcript], fmt: Format, path: str, *, task: Task, granularities: Collection[Granularity]
) -> StreamingResponse:
    """The events of ``heard``. Waits for the first item, so that what is refused is refused with a status."""
    try:
        first = await anext(heard)
    except BaseException:
        await heard.aclose()
        raise

    async def events() -> AsyncGenerator[str]:
        number = 0
        async with aclosing(heard):
            item: Segment | Transcript = first
            while isinstance(item, Segment):
                for event in _of_segment(item, number, fmt):
                    yield _framed(event)
                number += 1
                try:
                    item = await anext(heard)
                except Exception as error:
                    yield _framed({"type": "error"} | json.loads(bytes(answer_to(path, error).body)))
                    return
            yield _framed(_of_transcript(item, fmt, task, granularities))

    return StreamingResponse(events(), media_type="text/event-stream", headers=_HEADERS)


def _of_segment(segment: Segment, number: int, fmt: Format) -> list[dict[str, Any]]:
    delta = {"type": "transcript.text.delta", "delta": f" {segment.text}" if number else segment.text}
    if fmt != "verbose_json":
        return [delta]
    times = {"start": round(segment.start_s, 6), "end": round(segment.end_s, 6)}
    return [{"type": "transcript.text.segment", "id": number, **times, "text": segment.text}, delta]


def _of_transcript(transcript: Transcript, fmt: Format, task: Task, granularities: Collection[Granularity]) -> dict[str, Any]:
    rendered = render(transcript, fmt, task=task, granularities=granularities) if fmt == "verbose_json" else None
    return {"type": "transcript.text.done", "text": transcript.text} | (rendered if isinstance(rendered, dict) else {})


def _framed(event: dict[str, Any]) -> str:
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
