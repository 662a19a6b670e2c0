"""How fast training is: ours, end to end from a dataset's shards, beside the well-known recipe, in the same run.

    python benchmarks/training_throughput.py                    # one GPU: ours however compiled, and the recipe; 9 minutes at most
    python benchmarks/training_throughput.py --gpus 2           # ours on one GPU and on two, the batch growing with the GPUs
    python benchmarks/training_throughput.py --cpu              # seconds a clip, at the clips' own length and padded to 30 s
    python benchmarks/training_throughput.py --tiny [--cpu]     # to try the script: a toy model and a few clips

A model of whisper-small's shape with random weights: no figure here hangs on what the weights are. The clips last 4 to 5 s and
are spoken by eSpeak NG. Every figure comes from a process of its own. Not counted: validation, loading, and steps that compile.

- clips/s, audio s/s: of all GPUs together; silence that is added as padding is no audio
- GPU waits: share of the time in which the GPU had nothing to do between two steps, by events on the GPU; of several, the one's
  that waits most, since the others then wait for it
- TFLOP/s: model operations a second and GPU, 6 for each weight and position in matrix products (2 forward, 4 backward), and
  those of attention, convolutions and output layer (avskrift/training/flops.py); what activation checkpointing computes again
  is not counted, and of the recipe its padding is
- MFU: those over the peak, which is that of an 8192 x 8192 x 8192 product in bf16 of random numbers, measured here
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blog_recipe
import psutil
import torch
import transformers
from rich import box
from rich.console import Console
from rich.table import Table
from torch.nn import functional
from training_data import SIZES, long_run_dataset, tokenizer_file, training_config, write_random_model

from avskrift.audio.constants import WINDOW_SAMPLES
from avskrift.corpus.dataset import Dataset, open_dataset
from avskrift.training.checkpoint import Checkpoints
from avskrift.training.distributed import World
from avskrift.training.examples import Batch, BatchMaker, measure
from avskrift.training.loop import train
from avskrift.training.optimisation import Optimisation
from avskrift.training.plan import Part
from avskrift.training.windows import Window
from avskrift.whisper.tokens import WhisperTokens
from avskrift.whisper.transformers_folder import TOKENIZER_FILE, load_model

DATASHEET_TFLOPS = 989.0  # bf16, dense, of an H100 SXM
_CLIP_SECONDS = (4.0, 5.0)
_CPU_CLIP_SECONDS = (3.7, 4.3)
_CPU_BATCH = 8
_LEAST_SECONDS = 20.0  # no figure is begun with less time left


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One row of the table."""

    name: str
    clips_per_second: float = 0.0
    audio_seconds_per_second: float = 0.0
    gpu_memory_gb: float = 0.0
    data_wait_share: float = 0.0
    teraflops: float = 0.0
    compile_seconds: float = 0.0
    seconds: float = 0.0
    steps: int = 0
    gpus: int = 1
    failure: str = ""


def main() -> None:
    options = _options()
    if options.rank_worker:
        work_of_one_process(options.rank_worker)
        return
    console = Console(width=200)
    with tempfile.TemporaryDirectory(prefix="avskrift-bench-") as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        os.environ["AVSKRIFT_HOME"] = str(work / "home")
        if options.cpu:
            compare_padding(options, work, console)
        else:
            compare_recipes(options, work, console)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=6000, help="clips in the dataset")
    parser.add_argument("--recordings", type=int, default=300, help="distinct recordings that they repeat")
    parser.add_argument("--model-shape", choices=SIZES, default="", help="small; base with --cpu")
    parser.add_argument("--tokenizer", default="package:whisper-base", help="a tokenizer.json, or a model's folder or URI")
    parser.add_argument("--steps", type=int, default=200, help="our optimizer steps")
    parser.add_argument("--recipe-steps", type=int, default=120, help="the recipe's counted steps, of 16 clips")
    parser.add_argument("--batch-seconds", type=float, default=640.0, help="seconds of audio in a step of ours, for each GPU")
    parser.add_argument("--compile", nargs="*", choices=("off", "layers", "whole"), default=["whole", "off", "layers"])
    parser.add_argument("--ours", nargs="*", default=[], metavar="NAME=VALUE", help="options of our training")
    parser.add_argument(
        "--recipe-workers", nargs="*", type=int, default=[0, 4], help="loader processes of the recipe; none to leave it out"
    )
    parser.add_argument("--gpus", type=int, default=1, help="measure ours on one GPU and on so many, without the recipe")
    parser.add_argument("--minutes", type=float, default=9.0, help="what is not done by then is left out, and said so")
    parser.add_argument("--cpu", action="store_true", help="compare paddings on this machine's cores")
    parser.add_argument("--rounds", type=int, default=1, help="with --cpu: steps of 30 s; three times as many of the clips' own length")
    parser.add_argument("--tiny", action="store_true", help="a toy model, a few clips and steps")
    parser.add_argument("--work", type=Path, help="a folder that keeps dataset, model and compiled code for another call")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--rank-worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.model_shape = options.model_shape or ("toy" if options.tiny else "base" if options.cpu else "small")
    if options.tiny:
        options.clips, options.recordings, options.steps, options.recipe_steps = min(options.clips, 64), 8, 4, 3
        options.batch_seconds = min(options.batch_seconds, 60.0)
    return options


def compare_recipes(options: argparse.Namespace, work: Path, console: Console) -> None:
    deadline = time.monotonic() + options.minutes * 60
    started = time.monotonic()
    # Clips are met again within one long epoch, so that no validation interrupts it.
    weight = float(1 + int(options.steps * options.batch_seconds * options.gpus / min(_CLIP_SECONDS) / options.clips))
    folder = work / f"clips-{options.clips}-{options.recordings}-{weight:g}"
    long_run_dataset(folder, clips=options.clips, recordings=options.recordings, seconds=_CLIP_SECONDS, weight=weight)
    model = write_random_model(work / options.model_shape, options.model_shape, tokenizer_file(options.tokenizer))
    print(f"{options.clips} clips and a model made in {time.monotonic() - started:.0f} s", file=sys.stderr)

    shared = {
        "model": str(model),
        "dataset": str(folder),
        "features": str(work / f"features-{options.recordings}-{options.model_shape}.npy"),
    }
    rows = [
        measured(spec, work, gpus=gpus, until=deadline)
        for gpus in ((1,) if options.gpus == 1 else (1, options.gpus))
        for spec in _specs(options, shared, gpus=gpus)
    ]
    peak = measured_peak() if torch.cuda.is_available() else 0.0
    console.print(machine_line(options), soft_wrap=True)
    console.print(speed_table(rows, peak))
    if peak:
        console.print(
            f"Peak: {peak:.0f} TFLOP/s (bf16 product of 8192 x 8192 x 8192, median); the H100's datasheet says {DATASHEET_TFLOPS:.0f}.",
            soft_wrap=True,
        )
    if options.json:
        found = {"machine": machine_line(options), "peak_teraflops": peak, "rows": [dataclasses.asdict(row) for row in rows]}
        options.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


def _specs(options: argparse.Namespace, shared: dict[str, str], *, gpus: int) -> list[dict[str, Any]]:
    """What is measured on so many GPUs, the recipe first."""
    recipe = [
        shared | {"kind": "recipe", "name": f"the recipe, {workers} loader processes", "workers": workers, "steps": options.recipe_steps}
        for workers in options.recipe_workers
    ]
    ours = [
        shared
        | {
            "kind": "ours",
            "name": f"ours, compile {how}" + (f", {gpus} GPUs" if gpus > 1 else ""),
            "compile": how,
            "steps": options.steps,
            "batch_seconds": options.batch_seconds * gpus,
            "ours": options.ours,
        }
        for how in options.compile
    ]
    return ours if options.gpus > 1 else recipe + ours


def measured(spec: dict[str, Any], work: Path, *, gpus: int, until: float) -> Figures:
    """The figures of a run in a process of its own, or of as many as there are GPUs; why there are none, where there are none."""
    left = until - time.monotonic()
    if left < _LEAST_SECONDS:
        return Figures(name=spec["name"], gpus=gpus, failure="no time left")
    with tempfile.TemporaryDirectory(dir=work, prefix="run-") as name:
        folder = Path(name)
        (folder / "spec.json").write_text(json.dumps(spec | {"folder": name}), encoding="utf-8")
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(gpus)] if gpus > 1 else []
        command = [sys.executable, *launcher, __file__, "--rank-worker", str(folder / "spec.json")]
        alone = {"CUDA_VISIBLE_DEVICES": "0"} if gpus == 1 else {}  # the Trainer would take all that it sees
        environment = {"TORCHINDUCTOR_CACHE_DIR": str(work / "compiled"), **alone, **os.environ}
        with (folder / "said").open("w+b") as said:
            process = subprocess.Popen(command, stdout=said, stderr=said, env=environment, start_new_session=True)
            try:
                process.wait(timeout=left)
            except subprocess.TimeoutExpired:
                _end(process.pid)
                process.wait()
                _tell_end_of(folder / "said")
                return Figures(name=spec["name"], gpus=gpus, failure="no time left")
        if process.returncode:
            _tell_end_of(folder / "said")
            return Figures(name=spec["name"], gpus=gpus, failure=f"failed ({process.returncode})")
        ranks = [json.loads((folder / f"figures-{rank}.json").read_text(encoding="utf-8")) for rank in range(gpus)]
        longest_wait = max(one["data_wait_share"] for one in ranks)
        figures = Figures(**(ranks[0] | {"data_wait_share": longest_wait}), name=spec["name"], gpus=gpus)
    print(f"{figures.name}: {figures.clips_per_second:.1f} clips/s, {figures.data_wait_share:.1%} waiting", file=sys.stderr, flush=True)
    return figures


def _tell_end_of(said: Path) -> None:
    print(said.read_text(errors="replace")[-4000:], file=sys.stderr)


def _end(pid: int) -> None:
    """A process and all that it started, which under torchrun is in sessions of its own."""
    with suppress(psutil.NoSuchProcess):
        for member in (*psutil.Process(pid).children(recursive=True), psutil.Process(pid)):
            with suppress(psutil.NoSuchProcess):
                member.kill()


def work_of_one_process(file: Path) -> None:
    """Do what ``file`` says, and leave the figures beside it."""
    spec = json.loads(file.read_text(encoding="utf-8"))
    figures = run_ours(spec) if spec["kind"] == "ours" else run_recipe(spec)
    (Path(spec["folder"]) / f"figures-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(figures), encoding="utf-8")


def run_ours(spec: dict[str, Any]) -> dict[str, Any]:
    options = {"epochs": 1, "max_steps": spec["steps"], "batch_seconds": spec["batch_seconds"], "compile": spec["compile"]}
    config = training_config(spec["ours"], checkpoint_minutes=600.0, **options)
    folder = Path(spec["folder"])
    result = train(
        Path(spec["model"]),
        open_dataset(Path(spec["dataset"])),
        config,
        checkpoints=Checkpoints(folder / "checkpoints", "a" * 64),
        out=folder / "out",
    )
    return {**dataclasses.asdict(result.speed), "steps": result.steps}


def run_recipe(spec: dict[str, Any]) -> dict[str, Any]:
    clips = list(open_dataset(Path(spec["dataset"])).clips("train"))
    uncounted = max(1, spec["steps"] // 6)
    data = blog_recipe.prepare(Path(spec["features"]), clips, Path(spec["model"]))
    _, speed = blog_recipe.train(
        Path(spec["model"]), data, max_steps=uncounted + spec["steps"], uncounted_steps=uncounted, workers=spec["workers"]
    )
    seconds_a_clip = sum(clip.duration_s for clip in clips) / len(clips)
    return {**dataclasses.asdict(speed), "audio_seconds_per_second": speed.clips_per_second * seconds_a_clip}


def measured_peak(size: int = 8192, repeats: int = 20) -> float:
    """TFLOP/s of a bf16 product of random matrices, the median."""
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    event: Any = torch.cuda.Event  # without types
    events = [[event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    for _ in range(5):
        left @ right
    for start, end in events:
        start.record()
        left @ right
        end.record()
    torch.cuda.synchronize()
    milliseconds = statistics.median(float(start.elapsed_time(end)) for start, end in events)
    return 2 * size**3 / milliseconds / 1e9


def machine_line(options: argparse.Namespace) -> str:
    gpu = f"{options.gpus} x {torch.cuda.get_device_name()}, " if torch.cuda.is_available() and not options.cpu else ""
    cores = len(os.sched_getaffinity(0))
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"
    return f"{gpu}{cores} cores of {_processor()}, {versions}; whisper-{options.model_shape} shape"


def speed_table(rows: Sequence[Figures], peak: float) -> Table:
    """Ratios are to the better recipe, or with several GPUs to the same training on one."""
    recipes = [row.clips_per_second for row in rows if row.name.startswith("the recipe")]
    alone = {row.name: row.clips_per_second for row in rows if row.gpus == 1}
    table = Table(box=box.MARKDOWN)
    titles = ["training", "clips/s", "audio s/s", "times one GPU" if not recipes else "times the recipe", "GPU memory, GB", "GPU waits"]
    for title in [*titles, "TFLOP/s", "MFU", "of datasheet", "compiled in, s", "steps", "in s"]:
        table.add_column(title, justify="left" if title == "training" else "right")
    for row in rows:
        if row.failure:
            table.add_row(row.name, row.failure)
            continue
        base = max(recipes) if recipes else alone.get(row.name.removesuffix(f", {row.gpus} GPUs"), 0.0)
        table.add_row(
            row.name,
            f"{row.clips_per_second:.0f}",
            f"{row.audio_seconds_per_second:.0f}",
            f"{row.clips_per_second / base:.2f}" if base else "",
            f"{row.gpu_memory_gb:.1f}",
            f"{row.data_wait_share:.1%}",
            f"{row.teraflops:.3g}",
            f"{row.teraflops / peak:.1%}" if peak else "",
            f"{row.teraflops / DATASHEET_TFLOPS:.1%}" if peak else "",
            f"{row.compile_seconds:.0f}",
            str(row.steps),
            f"{row.seconds:.1f}",
        )
    return table


def compare_padding(options: argparse.Namespace, work: Path, console: Console) -> None:
    """Our own steps in float32 on batches of 8 clips of 4 s, as they are and padded to 30 s."""
    dataset = long_run_dataset(work / "cpu-clips", clips=_CPU_BATCH, recordings=_CPU_BATCH, seconds=_CPU_CLIP_SECONDS, weight=1.0)
    model = write_random_model(work / options.model_shape, options.model_shape, tokenizer_file(options.tokenizer))
    seconds = seconds_a_step(model, dataset, steps=(3 * options.rounds, options.rounds))
    table = Table(box=box.MARKDOWN)
    for title in ("batches of 8 clips of 4 s", "seconds a clip", "ratio"):
        table.add_column(title, justify="left" if title.startswith("batches") else "right")
    slowest = max(seconds.values())
    for name, value in seconds.items():
        table.add_row(name, f"{value / _CPU_BATCH:.2f}", f"{slowest / value:.1f}")
    console.print(machine_line(options), soft_wrap=True)
    console.print(table)
    if options.json:
        found = {"machine": machine_line(options), "seconds_a_clip": {name: value / _CPU_BATCH for name, value in seconds.items()}}
        options.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


def seconds_a_step(folder: Path, dataset: Dataset, *, steps: tuple[int, int]) -> dict[str, float]:
    """The median step of (own length, padded to 30 s); the first step of all is not counted."""
    clips = list(dataset.clips("train"))
    config = training_config([], device="cpu", packed_share=0.0)
    model = load_model(folder, torch.device("cpu"))
    model.train()
    optimisation = Optimisation(model, config, precision=torch.float32, compiled="off", world=World())
    batch = _batch_of(folder, clips, config)
    padded = dataclasses.replace(batch, samples=functional.pad(batch.samples, (0, WINDOW_SAMPLES - batch.samples.shape[1])))
    optimisation.step([batch], number=0, rate=1e-5)
    found = {}
    for name, given, count in (("ours, at their own length", batch, steps[0]), ("the same, padded to 30 s", padded, steps[1])):
        taken = []
        for number in range(count):
            started = time.perf_counter()
            optimisation.step([given], number=1 + number, rate=1e-5)
            taken.append(time.perf_counter() - started)
        found[name] = statistics.median(taken)
    return found


def _batch_of(folder: Path, clips: Sequence[Any], config: Any) -> Batch:
    maker = BatchMaker(clips, folder / TOKENIZER_FILE, config)
    sizes = measure(clips, WhisperTokens(folder / TOKENIZER_FILE))
    windows = tuple(Window((number,), size.duration_s) for number, size in enumerate(sizes))
    return maker.make(Part(windows, 1.0), seed=(1,))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
