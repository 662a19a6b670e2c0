"""The ``avskrift`` command, with a scripted engine for `serve`: ``python scripted_command.py serve --package DIR --port N``."""

from __future__ import annotations

import atexit
import functools
import os

from scripted_server import open_scripted

from avskrift.serving import server
from avskrift_pipelines.command.app import main

if __name__ == "__main__":
    server.serve = functools.partial(server.serve, open_transcriber=open_scripted)
    atexit.register(os.abort)  # as CTranslate2's tear-down ends while a thread of it is at work
    main()
