"""Reads Hugging Face sources in a process of its own: the hub's client reads ``HF_ENDPOINT`` once, when it is imported.

A line of JSON comes in, ``{"uri": ..., "walk": "listing" | "entries" | "licence", "first": COUNT, "read": false}``, and one
goes out: the entries with the number of samples that they read as, the licence, or the error with its class.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from itertools import islice
from typing import Any

from avskrift.corpus.entries import Entry
from avskrift.corpus.sources.huggingface import HuggingFaceSource
from avskrift.errors import AvskriftError


def _answer(uri: str, walk: str, first: int | None = None, read: bool = True) -> dict[str, Any]:
    try:
        source = HuggingFaceSource(uri=uri)
        if walk == "licence":
            return {"licence": source.licence}
        entries = source.entries() if walk == "entries" else source.listing()
        return {"entries": [_as_values(entry, read=read and walk == "entries") for entry in islice(entries, first)]}
    except AvskriftError as error:
        return {"error": type(error).__name__, "message": str(error)}


def _as_values(entry: Entry, *, read: bool) -> dict[str, Any]:
    values = {field.name: getattr(entry, field.name) for field in dataclasses.fields(entry) if field.name not in ("read", "fault")}
    fault = entry.fault and [entry.fault.code, entry.fault.reason]
    return values | {"fault": fault, "samples": len(entry.read()) if read and not fault else 0}


for line in sys.stdin:
    print(json.dumps(_answer(**json.loads(line))), flush=True)
