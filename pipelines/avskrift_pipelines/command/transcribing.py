"""``avskrift transcribe``: recordings to text, with a model loaded here or through an endpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, get_args

import typer

from avskrift.deployment import local
from avskrift.deployment.client import TOKEN_VARIABLE, Question, check_url
from avskrift.deployment.patience import PatientEndpoint
from avskrift.errors import AvskriftError, UsageError
from avskrift.progress import progress
from avskrift.serving.formats import FORMATS, TIMED_FORMATS, Format, check_format, render
from avskrift.storage.atomic import atomic_file, make_folder, sweep
from avskrift.storage.paths import home
from avskrift.text.languages import check_language
from avskrift.whisper.transcript import Options, Task
from avskrift_pipelines.command.output import say
from avskrift_pipelines.command.parallel import in_threads, one_by_one
from avskrift_pipelines.command.recordings import Recording, find, refuse_one_place_for_two
from avskrift_pipelines.kfp_access import one_word

Heard = Iterator[tuple[Recording, str | AvskriftError]]
_TASKS: tuple[Task, ...] = get_args(Task)


def transcribe(
    files: Annotated[
        list[Path], typer.Argument(help="WAV, FLAC, MP3, Ogg or M4A files, and folders of them.", metavar="FILES", show_default=False)
    ],
    model: Annotated[str, typer.Option(help="Package or model URI; the endpoint's package, else whisper-base, by default.")] = "",
    endpoint: Annotated[str, typer.Option(help="Ask a running server at this URL instead of loading a model.")] = "",
    language: Annotated[str, typer.Option(help="The recordings' language; identified where not given.")] = "",
    task: Annotated[str, typer.Option(help="transcribe, or translate into English.")] = "transcribe",
    prompt: Annotated[str, typer.Option(help="Text that came before, or names and words to expect.")] = "",
    format_: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "text",
    out: Annotated[
        Path | None, typer.Option(help="Write a transcript of each recording into this folder, as their folders have it.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="With --out: transcribe those too whose transcripts are there already.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="With --endpoint: recordings sent at once.")] = 4,
    service_name: Annotated[str, typer.Option(help="The model's name at the endpoint.")] = "avskrift",
    token: Annotated[
        str,
        typer.Option(
            envvar=TOKEN_VARIABLE,
            help="With --endpoint: a token for a gateway in front of it. Better in the variable, which no list of processes shows.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Transcribe recordings, here or through a running endpoint.

    With --out, the same command again does what is missing. A recording that fails does not stop the others.
    """
    fmt = check_format(format_)
    options = _options(language, task, prompt, fmt)
    if endpoint and options.task == "translate" and options.language:
        raise UsageError("--task translate takes no --language through an endpoint, which hears it itself; leave it out")
    if again and out is None:
        raise UsageError("--again is about the transcripts in a folder; name it with --out, or leave --again out")
    bearer = one_word(token.strip(), f"--token or {TOKEN_VARIABLE}") if endpoint and token else ""
    recordings = find(files)

    def heard(wanted: Sequence[Recording]) -> Heard:
        if endpoint:
            return in_threads(_through(endpoint.rstrip("/"), options, fmt, service_name, bearer), wanted, threads=jobs)
        return one_by_one(_here(model or _default_model(), options, fmt), wanted)

    failures = _print(recordings, heard) if out is None else _write(recordings, heard, out, fmt, again=again)
    if failures:
        raise _failure(failures, of=len(recordings))


def _options(language: str, task: str, prompt: str, fmt: Format) -> Options:
    chosen = next((one for one in _TASKS if one == task), None)
    if chosen is None:
        raise UsageError(f"no task {task!r}; use --task {' or '.join(_TASKS)}")
    return Options(
        language=check_language(language) if language else None,
        task=chosen,
        prompt=prompt.strip() or None,
        timestamps="segment" if fmt in TIMED_FORMATS else "none",
    )


def _print(recordings: Sequence[Recording], heard: Callable[[Sequence[Recording]], Heard]) -> dict[Recording, AvskriftError]:
    """Print the texts in the order of the recordings, each as soon as those before it are there; return what failed."""
    ready: dict[Recording, str | AvskriftError] = {}
    due = iter(recordings)
    following = next(due, None)
    for recording, outcome in heard(recordings):
        ready[recording] = outcome
        while following in ready:
            text = ready[following]
            if not isinstance(text, AvskriftError):
                if len(recordings) > 1:
                    say(f"{following.path}:")
                print(text.rstrip("\n"), flush=True)
            following = next(due, None)
    return _failed(ready)


def _write(
    recordings: Sequence[Recording], heard: Callable[[Sequence[Recording]], Heard], out: Path, fmt: Format, *, again: bool
) -> dict[Recording, AvskriftError]:
    """Write a transcript of each recording that has none yet, whole or not at all; return what failed."""
    refuse_one_place_for_two(recordings)
    make_folder(out)  # now, and not after the first recording, is the time to hear that it cannot be
    targets = {recording: recording.transcript(out, fmt) for recording in recordings}
    for folder in {target.parent for target in targets.values()}:
        sweep(folder)
    missing = [recording for recording, target in targets.items() if again or not target.exists()]
    there = len(recordings) - len(missing)
    if there:
        say(f"{there} of {len(recordings)} were there already; --again transcribes them too")
    outcomes: dict[Recording, str | AvskriftError] = {}
    if missing:
        with progress("transcribing", total=len(recordings), done=there, unit="recordings") as shown:
            for recording, outcome in heard(missing):
                if isinstance(outcome, AvskriftError):
                    outcomes[recording] = outcome
                else:
                    with atomic_file(targets[recording]) as temporary:
                        temporary.write_text(outcome if outcome.endswith("\n") else f"{outcome}\n", encoding="utf-8")
                shown.advance()
    failures = _failed(outcomes)
    say(f"{len(missing) - len(failures)} transcribed into {out}")
    return failures


def _failed(outcomes: dict[Recording, str | AvskriftError]) -> dict[Recording, AvskriftError]:
    return {recording: outcome for recording, outcome in outcomes.items() if isinstance(outcome, AvskriftError)}


def _failure(failures: dict[Recording, AvskriftError], *, of: int) -> AvskriftError:
    """One error for all, of the first one's kind."""
    told = [f"{recording.path}: {error}" for recording, error in failures.items()]
    kind = type(next(iter(failures.values())))
    if of == 1:
        return kind(told[0])
    return kind(f"{len(failures)} of {of} recordings were not transcribed:\n  " + "\n  ".join(told))


def _default_model() -> str:
    deployed = local.status(home())
    return deployed.package if deployed else "package:whisper-base"


def _here(model: str, options: Options, fmt: Format) -> Callable[[Recording], str]:
    from avskrift.audio.decode import decode_path
    from avskrift.whisper.export import as_package
    from avskrift.whisper.transcriber import load_transcriber

    package = as_package(model)
    package.verify()
    engine = load_transcriber(package)

    def hear(recording: Recording) -> str:
        rendered = render(engine.transcribe([decode_path(recording.path)], options)[0], fmt, task=options.task)
        return rendered if isinstance(rendered, str) else json.dumps(rendered, ensure_ascii=False)

    return hear


def _through(url: str, options: Options, fmt: Format, service_name: str, token: str) -> Callable[[Recording], str]:
    check_url(url)
    patient = PatientEndpoint(url, token=token)
    question = Question(
        model=service_name, response_format=fmt, language=options.language or "", prompt=options.prompt or "", task=options.task
    )
    return lambda recording: patient.ask(recording.path, question)
