"""Says a sentence to the endpoint and prints what it hears; exit code 1 if it hears nothing or does not answer in time.

It runs in the data image, which has eSpeak NG: no recording need be kept.
"""

import argparse
import io
import json
import sys
import time
import urllib.error
import urllib.request
import wave

from avskrift.corpus.demo.espeak import ESPEAK_RATE, say

_BOUNDARY = "avskrift-helm-test"
_REQUEST_SECONDS = 60
_SENTENCE = "Hej, det här är ett litet test."


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("urls", nargs="+")
    parser.add_argument("--timeout", type=float, default=300)
    given = parser.parse_args()
    recording = spoken()
    deadline, failure = time.monotonic() + given.timeout, ""
    while time.monotonic() < deadline:
        for url in given.urls:
            try:
                text = transcribe(url, recording)
            except (OSError, ValueError, KeyError) as error:  # urllib's errors are OSErrors
                failure = f"{url}: {error}"
                continue
            print(f"{url} heard: {text}")
            return 0 if text.strip() else 1
        time.sleep(5)
    print(f"no transcript within {given.timeout:.0f} s; the last failure: {failure}", file=sys.stderr)
    return 1


def spoken() -> bytes:
    """The sentence as a WAV file of 16 bits, mono."""
    samples = say(_SENTENCE, language="sv", variant="m3", rate=150, pitch=45, seed=1)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(ESPEAK_RATE)
        out.writeframes(samples.tobytes())
    return file.getvalue()


def transcribe(url: str, recording: bytes) -> str:
    """The text of a recording, by the OpenAI route."""
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="sentence.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    body = head.encode() + recording + f"\r\n--{_BOUNDARY}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    request = urllib.request.Request(f"{url}/openai/v1/audio/transcriptions", data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=_REQUEST_SECONDS) as answer:
        return str(json.load(answer)["text"])


if __name__ == "__main__":
    sys.exit(main())
