"""Checks what a demo run says of itself: ``python tests/check_summary.py SUMMARY``. Exit code 1 with the reasons if it does not hold."""

from __future__ import annotations

import json
import math
import sys
import urllib.request
from pathlib import Path
from typing import Any

_MINUTES, _MEMORY_MB = 15, 8 * 1024


def faults(summary: dict[str, Any]) -> list[str]:
    """What does not hold, in words."""
    low, high = summary["wer_after_ci"]
    rules = {
        "wer_after is at most half of wer_before": summary["wer_after"] <= summary["wer_before"] / 2,
        "the interval is finite and around wer_after": all(map(math.isfinite, (low, high))) and low <= summary["wer_after"] <= high,
        "cer_after is a rate": 0 <= summary["cer_after"] <= 1,
        "the gate passed": summary["gate_passed"] is True and summary["gate_reasons"] != [],
        "a version was registered": str(summary["model_version"]).isdigit(),
        "there is a transcript": bool(summary["transcript"].strip()),
        "every step is timed": {"total", "prepare", "fine_tune", "export", "evaluate", "gate", "register", "deploy", "finalize"}
        <= summary["seconds"].keys(),
        f"it took at most {_MINUTES} minutes": summary["seconds"]["total"] <= _MINUTES * 60,
        "memory stayed under 8 GB": 0 < summary["peak_rss_mb"] < _MEMORY_MB,
        "the endpoint is ready": _is_ready(summary["endpoint"]),
    }
    return [rule for rule, holds in rules.items() if not holds]


def _is_ready(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(f"{endpoint}/v2/health/ready", timeout=10) as answer:
            return bool(json.load(answer)["ready"])
    except (OSError, ValueError, KeyError):
        return False


if __name__ == "__main__":
    found = faults(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    print("\n".join(f"does not hold: {fault}" for fault in found) or "the demo's summary holds")
    sys.exit(1 if found else 0)
