"""How fast a model is heard: our batched transcription beside the evaluation loop of `Seq2SeqTrainer`, in the same run.

    python benchmarks/evaluation_gpu.py --base package:whisper-base      # real weights: each writes until it has said all
    python benchmarks/evaluation_gpu.py --model-shape small              # random weights: each writes --tokens tokens
    python benchmarks/evaluation_gpu.py --tiny                           # to try the script

Clips of 4.5 to 5.5 s of synthetic Swedish. Ours is `whisper/torch_transcriber.py`, which validates while training and judges an
export: clips decoded from FLAC, log-mel on the GPU, encoded at their own length, greedy with a cache, in bf16. The peer is
`Seq2SeqTrainer.evaluate` with `predict_with_generate`, as the well-known notebook configures it: batches of 8, fp16, features
computed before. Both time from clips to WER; the peer has fewer clips to do. What is met first (kernels, shapes) is met before
the clock starts. CTranslate2, which serves, has no part in this.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import blog_recipe
import jiwer
import torch
import transformers
from rich import box
from rich.console import Console
from rich.table import Table
from training_data import SIZES, long_run_dataset, tokenizer_file, write_random_model
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, WhisperProcessor

from avskrift.audio.constants import FRAMES_PER_POSITION
from avskrift.corpus.dataset import Clip
from avskrift.corpus.decoded import decoded_ahead
from avskrift.text.normaliser import normalise
from avskrift.whisper import torch_transcriber
from avskrift.whisper.package import EncoderContext
from avskrift.whisper.tokens import WhisperTokens
from avskrift.whisper.torch_transcriber import TorchTranscriber, by_length
from avskrift.whisper.transcript import Options
from avskrift.whisper.transformers_folder import TOKENIZER_FILE, load_model, open_model

LANGUAGE = "sv"
_CLIP_SECONDS = (4.5, 5.5)
_PEER_BATCH = 8
_AS_LONG_AS_IT_LASTS = EncoderContext(policy="variable", minimum_frames=FRAMES_PER_POSITION, multiple_frames=FRAMES_PER_POSITION)
_WHOLE = EncoderContext(policy="full")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one way of evaluating did. ``wer`` is -1 with random weights."""

    name: str
    batch: int
    clips: int
    seconds: float
    gpu_memory_gb: float
    wer: float

    @property
    def clips_per_second(self) -> float:
        return self.clips / self.seconds


def main() -> None:
    options = _options()
    console = Console(width=160)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory(prefix="avskrift-bench-") as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        os.environ["AVSKRIFT_HOME"] = str(work / "home")
        folder = work / f"evaluated-{options.clips}-{options.recordings}"
        dataset = long_run_dataset(folder, clips=options.clips, recordings=options.recordings, seconds=_CLIP_SECONDS, weight=1.0)
        clips = list(dataset.clips("train"))
        if options.base:
            model = open_model(options.base)
        else:
            model = write_random_model(work / options.model_shape, options.model_shape, tokenizer_file(options.tokenizer))
        few = clips[: options.peer_clips]
        prepared = blog_recipe.prepare(work / f"evaluated-{len(few)}.npy", few, model)  # forks, so before the GPU is touched
        rows = [peer(model, few, prepared, options, device)]
        rows += [ours(model, clips, options, device, batch=batch) for batch in options.batches]
        rows += [ours(model, clips, options, device, batch=options.batches[-1], context=_WHOLE)]
    name = torch.cuda.get_device_name() if device.type == "cuda" else "a CPU"
    console.print(
        f"{name}, Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__};", end=" "
    )
    console.print(options.base or f"whisper-{options.model_shape} shape, {options.tokens} tokens a clip")
    console.print(table(rows))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="", help="a real model, a folder or a URI")
    parser.add_argument("--model-shape", choices=SIZES, default="small", help="without --base")
    parser.add_argument(
        "--tokenizer", default="package:whisper-base", help="of random weights: a tokenizer.json, or a model's folder or URI"
    )
    parser.add_argument("--tokens", type=int, default=32, help="that random weights write of each clip; 5 s of speech have some 25")
    parser.add_argument("--clips", type=int, default=4096)
    parser.add_argument("--recordings", type=int, default=200, help="distinct recordings that they repeat")
    parser.add_argument("--peer-clips", type=int, default=128, help="the first of them, for the peer")
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--tiny", action="store_true", help="a toy model and a few clips")
    parser.add_argument("--work", type=Path, help="a folder that keeps clips and model for another call")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    if options.tiny:
        options.model_shape, options.clips, options.recordings, options.peer_clips, options.batches = "toy", 24, 8, 8, [8, 16]
    return options


def ours(
    folder: Path,
    clips: Sequence[Clip],
    options: argparse.Namespace,
    device: torch.device,
    *,
    batch: int,
    context: EncoderContext = _AS_LONG_AS_IT_LASTS,
) -> Row:
    """All clips from FLAC to WER."""
    model = load_model(folder, device).eval()
    if device.type == "cuda":
        model = model.to(torch.bfloat16)
    engine = TorchTranscriber(model, WhisperTokens(folder / TOKENIZER_FILE), context, at_once=batch)
    batches = by_length([clip.duration_s for clip in clips], batch)
    with _written_at_most(0 if options.base else options.tokens):
        _hear(engine, clips, batches[:1])
        _reset(device)
        started = time.perf_counter()
        heard = _hear(engine, clips, batches)
        wer = _wer([clips[number] for number in heard], list(heard.values()))
        seconds = time.perf_counter() - started
    encoded = "at 30 s" if context is _WHOLE else "at their own length"
    return Row(
        name=f"ours, encoded {encoded}",
        batch=batch,
        clips=len(clips),
        seconds=seconds,
        gpu_memory_gb=_peak_gb(device),
        wer=wer if options.base else -1.0,
    )


def _hear(engine: TorchTranscriber, clips: Sequence[Clip], batches: Sequence[Sequence[int]]) -> dict[int, str]:
    """The texts by the clips' numbers, as validation has them."""
    heard = {}
    for batch in decoded_ahead(clips, batches):
        transcripts = engine.transcribe([one.samples for one in batch], Options(language=LANGUAGE))
        heard.update({one.number: transcript.text for one, transcript in zip(batch, transcripts, strict=True)})
    return heard


def _written_at_most(tokens: int) -> AbstractContextManager[Any]:
    """Random weights never say that they are done, so that so many tokens are all that each writes; 0 leaves the engine its room."""
    room = {"_TOKENS_AT_LEAST": tokens, "_TOKENS_PER_SECOND": 0}
    return mock.patch.multiple(torch_transcriber, **room) if tokens else nullcontext()


def peer(
    folder: Path, clips: Sequence[Clip], prepared: blog_recipe.PreparedClips, options: argparse.Namespace, device: torch.device
) -> Row:
    """The evaluation loop of the notebook, over a few clips."""
    model = load_model(folder, torch.device("cpu"))
    model.generation_config.language, model.generation_config.task = "swedish", "transcribe"
    model.generation_config.forced_decoder_ids = None
    processor = WhisperProcessor.from_pretrained(folder, language="Swedish", task="transcribe")
    lengths = {} if options.base else {"generation_max_length": options.tokens + 4}
    with tempfile.TemporaryDirectory(prefix="avskrift-peer-") as out:
        arguments = Seq2SeqTrainingArguments(
            output_dir=out,
            per_device_eval_batch_size=_PEER_BATCH,
            predict_with_generate=True,
            fp16=device.type == "cuda",
            use_cpu=device.type != "cuda",
            report_to=[],
            remove_unused_columns=False,
            label_names=["labels"],
            disable_tqdm=True,
            **({"generation_max_length": 225} | lengths),
        )

        def compute_metrics(prediction: Any) -> dict[str, float]:
            ids = prediction.predictions
            ids[ids == -100] = processor.tokenizer.pad_token_id
            return {"wer": _wer(clips[: len(ids)], processor.batch_decode(ids, skip_special_tokens=True))}

        trainer = Seq2SeqTrainer(
            args=arguments,
            model=model,
            eval_dataset=prepared,
            data_collator=blog_recipe.Collator(processor, model.config.decoder_start_token_id),
            compute_metrics=compute_metrics,
            processing_class=processor,
        )
        trainer.evaluate(eval_dataset=torch.utils.data.Subset(prepared, range(_PEER_BATCH)))
        _reset(device)
        started = time.perf_counter()
        figures = trainer.evaluate()
        seconds = time.perf_counter() - started
    return Row(
        name="Seq2SeqTrainer.evaluate",
        batch=_PEER_BATCH,
        clips=len(clips),
        seconds=seconds,
        gpu_memory_gb=_peak_gb(device),
        wer=float(figures["eval_wer"]) if options.base else -1.0,
    )


def _wer(clips: Sequence[Clip], heard: Sequence[str]) -> float:
    return float(jiwer.wer([normalise(clip.text, LANGUAGE) for clip in clips], [normalise(text, LANGUAGE) for text in heard]))


def _reset(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()


def _peak_gb(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else 0.0


def table(rows: Sequence[Row]) -> Table:
    """Ratios are to the peer, the first row."""
    made = Table(box=box.MARKDOWN)
    for title in ("evaluation", "batch", "clips", "clips/s", "times the loop", "GPU memory, GB", "WER"):
        made.add_column(title, justify="left" if title == "evaluation" else "right")
    for row in rows:
        ratio = row.clips_per_second / rows[0].clips_per_second
        wer = f"{row.wer:.1%}" if row.wer >= 0 else ""
        made.add_row(
            row.name, str(row.batch), str(row.clips), f"{row.clips_per_second:.1f}", f"{ratio:.1f}", f"{row.gpu_memory_gb:.1f}", wer
        )
    return made


if __name__ == "__main__":
    main()
