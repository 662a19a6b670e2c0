"""The obvious endpoint: faster-whisper behind FastAPI, one recording at a time behind a lock. ``benchmarks/endpoint.py`` starts it.

python benchmarks/locked_server.py CTRANSLATE2_FOLDER PORT THREADS
"""

from __future__ import annotations

import io
import sys
import threading
from typing import Annotated

import uvicorn
from fastapi import FastAPI, File, Form
from faster_whisper import WhisperModel


def main() -> None:
    folder, port, threads = sys.argv[1:4]
    model = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=int(threads))
    lock = threading.Lock()
    app = FastAPI()

    @app.post("/openai/v1/audio/transcriptions")
    def transcribe(file: Annotated[bytes, File()], language: Annotated[str, Form()]) -> dict[str, str]:
        with lock:
            segments, _ = model.transcribe(io.BytesIO(file), language=language, beam_size=1)
            return {"text": " ".join(segment.text.strip() for segment in segments)}

    uvicorn.run(app, port=int(port), log_level="error")


if __name__ == "__main__":
    main()
