"""SpecAugment: stretches of time and bands of frequency are hidden, so that no single one is relied on.

Source: Park et al., *SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition* (2019), without its
time warping, which the paper finds to matter least.
"""

from __future__ import annotations

import torch

MASKS = 2  # of each kind
# The paper's policies mask up to 15 or 27 of 80 bins at once; fine-tuning needs the milder: 12 of 80, 19 of 128.
MAX_BAND_SHARE = 0.15
# A share of the frames, not a number, since windows last 1 to 30 s: a mask hides at most 0.4 s of 5 s, a word or so.
MAX_STRETCH_SHARE = 0.08


def spec_augment(features: torch.Tensor, *, share: float, generator: torch.Generator | None = None) -> torch.Tensor:
    """Log-mel ``features`` (batch, mels, frames) with masks over a row with the probability ``share``.

    Masked cells get the row's mean; other cells and rows stay as they are. Numbers are drawn on the features' device, where
    ``generator`` must live, and nothing waits for the device.
    """
    if share == 0:
        return features
    batch, mels, frames = features.shape
    chosen = torch.rand((batch, 1, 1), device=features.device, generator=generator) < share
    bands = _masks(batch, mels, MAX_BAND_SHARE, features.device, generator)
    stretches = _masks(batch, frames, MAX_STRETCH_SHARE, features.device, generator)
    masked = chosen & (bands[:, :, None] | stretches[:, None, :])
    return torch.where(masked, features.mean(dim=(1, 2), keepdim=True), features)


def _masks(batch: int, size: int, max_share: float, device: torch.device, generator: torch.Generator | None) -> torch.Tensor:
    """(batch, size), true inside :data:`MASKS` intervals a row, each from none to ``max_share`` of ``size`` wide."""
    draws = torch.rand((2, batch, MASKS, 1), device=device, generator=generator)
    widths = (draws[0] * (int(max_share * size) + 1)).floor()
    starts = (draws[1] * (size - widths + 1)).floor()
    places = torch.arange(size, device=device)
    return ((places >= starts) & (places < starts + widths)).any(dim=1)
