"""Asking an endpoint until it answers: it may be busy, starting, or be replaced while a folder of recordings is sent."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path

from avskrift.deployment.client import Answer, Question, no_answer, send_file
from avskrift.errors import EndpointError

_BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_FIRST_WAIT_SECONDS = 0.5  # doubles, where the endpoint does not say how long
_LONGEST_WAIT_SECONDS = 30.0
_JITTER = 0.25  # of a wait, added at random: those who were sent away together should not come back together
_ALL_WAITS_SECONDS = 600.0
_CONNECTIONS = 5  # tries, over some 8 s

Sleep = Callable[[float], object]


class PatientEndpoint:
    """An endpoint that is asked again where that may help. For several threads.

    A recording waits ten minutes in all for an endpoint that is busy (429, 503), each time for as long as ``Retry-After``
    says. A connection that is refused or lost is tried five times; once that was in vain, those who ask after it try once
    until somebody is answered, so that an endpoint that is gone does not hold a thousand recordings for hours.
    """

    def __init__(self, url: str, *, token: str = "", sleep: Sleep = time.sleep) -> None:
        self._url, self._token, self._sleep = url, token, sleep
        self._gone = threading.Event()

    def ask(self, path: Path, question: Question) -> str:
        """What the endpoint answers about a recording, in the format that the question names.

        Raises:
            SourceError: the file cannot be read.
            EndpointError: no answer, one other than 200 that asking again would not change, or busy for too long.
        """
        waited, losses, rounds = 0.0, 0, 0
        while True:
            try:
                answer = send_file(self._url, path, question, token=self._token)
            except (ConnectionError, http.client.IncompleteRead) as error:
                losses += 1
                failure = no_answer(self._url, error)
                if losses >= (1 if self._gone.is_set() else _CONNECTIONS):
                    self._gone.set()
                    raise failure from error
                wait = _FIRST_WAIT_SECONDS * 2.0 ** (losses - 1)
            except (OSError, http.client.HTTPException) as error:
                raise no_answer(self._url, error) from error
            else:
                self._gone.clear()
                if answer.status not in _BUSY:
                    return answer.text(self._url)
                failure = answer.error(self._url)
                wait = _wait(answer, rounds)
                rounds += 1
            wait *= 1 + _JITTER * random.random()
            waited += wait
            if waited > _ALL_WAITS_SECONDS:
                raise EndpointError(f"{failure} (for {_ALL_WAITS_SECONDS / 60:.0f} minutes; try again later, or with fewer --jobs)")
            self._sleep(wait)


def _wait(answer: Answer, rounds: int) -> float:
    """Seconds to wait before asking again; ``rounds`` answers of this kind came before."""
    usual = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0**rounds)
    said = answer.retry_after.strip()
    if said.isascii() and said.isdigit():
        return max(float(said), _FIRST_WAIT_SECONDS)
    try:
        moment = parsedate_to_datetime(said)
    except ValueError:
        return usual
    return max((moment.astimezone(UTC) - datetime.now(UTC)).total_seconds(), _FIRST_WAIT_SECONDS)
