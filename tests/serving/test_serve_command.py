"""``avskrift serve``: the same server, in the foreground of somebody's terminal."""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from conftest import recording, started
from scripted_server import CUT_HANGING_SECONDS, HANG_FOLDER, HANGING_SECONDS, SPOKEN

_COMMAND = Path(__file__).with_name("scripted_command.py")


@pytest.mark.parametrize("seconds", [HANGING_SECONDS, CUT_HANGING_SECONDS], ids=["while it is read", "while it is cut"])
def test_ctrl_c_in_the_middle_of_a_transcription_is_a_quiet_end(package: Path, tmp_path: Path, seconds: float) -> None:
    command = [sys.executable, str(_COMMAND), "serve", "--package", str(package), "--port", "0"]
    with started(command, tmp_path / "log", **{HANG_FOLDER: str(tmp_path)}, AVSKRIFT_GRACE_SECONDS="1") as server:
        assert server.transcribe(recording(1.5)).json() == {"text": SPOKEN}

        def ask() -> None:
            with suppress(httpx.HTTPError):
                server.transcribe(recording(seconds))

        thread = threading.Thread(target=ask)
        thread.start()
        while not (tmp_path / "started").exists():  # ends with pytest's own timeout
            time.sleep(0.01)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=60) == 0
        thread.join()
        assert "serving.stopped" in server.log()
        assert "Traceback" not in server.log()
