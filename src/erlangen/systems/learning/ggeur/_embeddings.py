"""What stands for a foundation model: a network that was trained on printed letters, and embeds digits it never saw."""

from __future__ import annotations

import functools
import math

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen.data import digits, glyphs
from erlangen.training import fit

LETTERS = "ACDEFGHJKLMNPRTUVWXYabdefhkmnrtuwy"
"""Without those that look like digits."""

WIDTH = 64
DOMAINS = ("written", "printed", "negative", "striped")


class Encoder(nn.Sequential):
    """Pictures ``[B, 1, 28, 28]`` to embeddings ``[B, 64]``."""

    def __init__(self) -> None:
        stages: list[nn.Module] = []
        for before, after in ((1, 16), (16, 32), (32, 64)):
            stages += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        super().__init__(*stages, nn.Flatten(), nn.Linear(64 * 16, WIDTH))


@functools.cache
def encoder(per_class: int, epochs: int) -> nn.Module:
    """A frozen `Encoder` that tells letters apart; the same in every run."""
    g = Generator().manual_seed(0)
    letters = glyphs(LETTERS, per_class, generator=g, degrees=20, shear=0.3, scale=(0.7, 1.2), blur=0.8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = Encoder()
        net = nn.Sequential(body, nn.ReLU(), nn.Linear(WIDTH, len(LETTERS)))
        fit(net, letters.x, letters.y, loss=cross_entropy, epochs=epochs, batch_size=64, lr=3e-3, progress=False)
    return body.eval().requires_grad_(False)


@functools.cache
def embedded(domain: str, part: str, per_class: int, epochs: int) -> tuple[Tensor, Tensor]:
    """Embeddings ``[N, 64]`` and labels of the digits of a domain, "train" or "test"."""
    x, y = pictures(domain, part)
    with torch.no_grad():
        return torch.cat([encoder(per_class, epochs)(piece) for piece in x.split(500)]), y


def pictures(domain: str, part: str) -> tuple[Tensor, Tensor]:
    """Digits of a domain: handwritten, printed, handwritten in white on grey noise, handwritten on stripes."""
    seed = 2 * DOMAINS.index(domain) + (part == "test")
    g = Generator().manual_seed(seed)
    if domain == "printed":
        data = glyphs("0123456789", 260 if part == "train" else 65, generator=g)
        order = torch.randperm(len(data.x), generator=g)
        return data.x[order], data.y[order]
    data = digits("train" if part == "train" else "test")
    if domain == "written" or part == "test":
        x, y = data.x, data.y
    else:  # negative and striped share no digit in training; written has both halves
        half = len(data.x) // 2
        piece = slice(0, half) if domain == "negative" else slice(half, None)
        x, y = data.x[piece], data.y[piece]
    if domain == "negative":
        return (1 - x + 0.15 * torch.randn(x.shape, generator=g)).clamp(0, 1), y
    if domain == "striped":
        phase = 2 * math.pi * torch.rand(len(x), 1, 1, 1, generator=g)
        turn = math.pi * torch.rand(len(x), 1, 1, 1, generator=g)
        at = torch.linspace(-1, 1, 28)
        wave = torch.sin(9 * (turn.cos() * at + turn.sin() * at[:, None]) + phase)
        return torch.maximum(x, 0.25 + 0.25 * wave), y
    return x, y
