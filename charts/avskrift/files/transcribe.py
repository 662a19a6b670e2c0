"""Sends a recording to the endpoint and prints what it hears; exit code 1 if it hears nothing or does not answer in time."""

import argparse
import json
import sys
import time
import urllib.error
import urllib.request

_BOUNDARY = "avskrift-helm-test"
_REQUEST_SECONDS = 60


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("recording")
    parser.add_argument("urls", nargs="+")
    parser.add_argument("--timeout", type=float, default=300)
    given = parser.parse_args()
    with open(given.recording, "rb") as file:  # noqa: PTH123 - one file, read once
        recording = file.read()
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


def transcribe(url: str, recording: bytes) -> str:
    """The text of a recording, by the OpenAI route."""
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="sample.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    body = head.encode() + recording + f"\r\n--{_BOUNDARY}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    request = urllib.request.Request(f"{url}/openai/v1/audio/transcriptions", data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=_REQUEST_SECONDS) as answer:
        return str(json.load(answer)["text"])


if __name__ == "__main__":
    sys.exit(main())
