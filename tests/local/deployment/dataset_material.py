"""A dataset card as prepare's output ``card`` is: dataset.json, report and README, no clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FINGERPRINT = "f" * 64  # of the dataset on which deployment_material's evaluation was measured


def make_card(folder: Path, **changes: Any) -> Path:
    """The card of a dataset of 24, 8 and 8 clips, changed as told."""
    folder.mkdir(parents=True)
    description = {
        "fingerprint": FINGERPRINT,
        "language": "sv",
        "licence": "CC0-1.0",
        "source": "demo:tiny",
        "source_sha256": "1" * 64,
        "normaliser": "sv-1",
        "splits": {
            "train": {"clips": 24, "hours": 0.02, "speakers": 3},
            "validation": {"clips": 8, "hours": 0.0071, "speakers": 1},
            "test": {"clips": 8, "hours": 0.0067, "speakers": 0},
        },
        "rejected": 2,
        "sources": [of("demo:tiny")],
        "speaker_salt_check": "12345678",
        "version": 2,
    }
    (folder / "dataset.json").write_text(json.dumps({**description, **changes}), encoding="utf-8")  # NaN too, as others write it
    (folder / "report.html").write_text("<title>40 recordings</title>", encoding="utf-8")
    (folder / "README.md").write_text("# Swedish speech\n", encoding="utf-8")
    return folder


def of(uri: str) -> dict[str, Any]:
    """One of a dataset's sources."""
    return {"uri": uri, "licence": "CC0-1.0", "weight": 1.0, "clips": 40, "hours": 0.0338, "rejected": 2}
