"""What a run costs: GPU minutes and storage, from what was measured (benchmarks/README.md) and the size of a corpus.

    python benchmarks/costs.py [--clips 31658 --seconds 4.0 --epochs 3 --price 3.5]

Nothing is measured here. Training is counted as model FLOPs (components/avskrift/training/flops.py) at the share of a GPU's peak that was
measured for whisper-small's shape, which larger models reach too or exceed: their products are larger. Start, compilation,
validation and the first batches are not in it; they are minutes, whatever the corpus. Weights are float32 in hf/ and float16 in ct2/;
a checkpoint holds float32 weights and the two moments of AdamW.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from transformers import WhisperConfig

from avskrift.audio.constants import FRAMES_PER_SECOND
from avskrift.training.flops import training_flops

_PEAK_FLOPS, _MFU = 815e12, 0.223  # one H200, bf16, not compiled: the table of training's speed
_PREPARED_CLIPS_A_SECOND = 297  # two CPU cores, Common Voice's shape: the table of prepare
_KB_A_CLIP, _MP3_KB_A_CLIP = 78.2, 31.8  # of 4.0 s, same table
_CHECKPOINTS_KEPT = 2
_TOKENS_A_SECOND = 6.5  # of Swedish text and its markers
_BYTES = {"hf": 4, "ct2": 2, "checkpoint": 12}


@dataclass(frozen=True, slots=True)
class Size:
    """A size of Whisper: its shape and its millions of weights."""

    name: str
    config: WhisperConfig
    millions: float


def _size(name: str, width: int, layers: int, millions: float, *, mels: int = 80, words: int = 51865) -> Size:
    shape = {"d_model": width, "encoder_layers": layers, "decoder_layers": layers, "num_mel_bins": mels, "vocab_size": words}
    return Size(name, WhisperConfig(**shape, encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width), millions)


SIZES = (_size("small", 768, 12, 244), _size("large-v3", 1280, 32, 1550, mels=128, words=51866))
# sv-SE of Common Voice 25: the train split, and all validated clips that are in neither of the other two.
CORPORA = (("its train split", 8_254), ("and the validated remainder", 31_658))


def main() -> None:
    options = _options()
    corpora = [("given", options.clips)] if options.clips else list(CORPORA)
    price = f", {options.price:g} an hour" if options.price else ""
    print(f"{options.seconds:g} s a clip, {options.epochs} epochs, one H200 at {_MFU:.0%} of {_PEAK_FLOPS / 1e12:.0f} TFLOP/s{price}\n")
    print("| corpus | clips | hours | MP3, GB | dataset, GB | prepare on 2 cores, minutes |\n|---|---|---|---|---|---|")
    for name, clips in corpora:
        scale = clips * options.seconds / 4.0
        stored = f"{_MP3_KB_A_CLIP * scale / 1e6:.1f} | {_KB_A_CLIP * scale / 1e6:.1f} | {scale / _PREPARED_CLIPS_A_SECOND / 60:.1f}"
        print(f"| {name} | {clips:,} | {clips * options.seconds / 3600:.1f} | {stored} |")
    print("\n| size | corpus | GPU minutes | costs | package, GB | checkpoints, GB |\n|---|---|---|---|---|---|")
    for size in SIZES:
        for name, clips in corpora:
            minutes = gpu_minutes(size, clips=clips, seconds=options.seconds, epochs=options.epochs)
            costs = f"{minutes / 60 * options.price:.2f}" if options.price else ""
            package = size.millions * (_BYTES["hf"] + _BYTES["ct2"]) / 1e3
            checkpoints = size.millions * _BYTES["checkpoint"] * _CHECKPOINTS_KEPT / 1e3
            print(f"| {size.name} | {name} | {minutes:.1f} | {costs} | {package:.1f} | {checkpoints:.1f} |")


def gpu_minutes(size: Size, *, clips: int, seconds: float, epochs: int) -> float:
    """Minutes of one H200 for training alone."""
    tokens = round(seconds * _TOKENS_A_SECOND)
    one = training_flops(size.config, windows=1, frames=round(seconds * FRAMES_PER_SECOND), tokens=tokens, learnt=tokens)
    return clips * epochs * one / (_PEAK_FLOPS * _MFU) / 60


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=0, help="of your corpus; 0 for Common Voice's")
    parser.add_argument("--seconds", type=float, default=4.0, help="a clip")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--price", type=float, default=0.0, help="of a GPU hour, in any currency")
    return parser.parse_args()


if __name__ == "__main__":
    main()
