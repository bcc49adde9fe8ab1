"""What all parts share: errors of predicted frames, cost, one training, and predictions without a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from erlangen.survey import Rival, Run, Training
from erlangen.systems.images.fernn.rivals import Black, CopyLast
from erlangen.training import one_cycle

TWICE = "twice as many frames ahead as it was trained on"
FRESH = 100
"""The first seed of data: nothing was tried on those from here on."""


@torch.no_grad()
def frame_errors(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Squared errors ``[B, horizon]``, means over pixels, of predicted frames ``[B, horizon, 1, H, W]``."""
    batches = zip(x.split(20), y.split(20), strict=True)
    return torch.cat([(model(given, y.shape[1]) - frames).square().mean((2, 3, 4)) for given, frames in batches])


def megaflops(model: nn.Module, *inputs: Any) -> int:
    """Millions of floating-point operations of one forward pass, as torch counts them."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs)
    return round(counter.get_total_flops() / 1e6)


def trained_frames(model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> dict[str, float]:
    """What chooses learning rates: the error of the frames that training predicts."""
    return {"MSE, trained frames": float(frame_errors(model, x, y).mean())}


def training(run: Run[Any], loss: Callable[[Tensor, Tensor], Tensor], batch: int) -> Training:
    """Adam, a rate that rises and falls, gradients cut to norm 1."""
    return Training(
        loss, run.budget.epochs, batch, run.budget.rates, torch.optim.Adam, schedule=one_cycle, clip=1.0, widen=3
    )


def untrained() -> dict[str, Rival]:
    """Predictions without a network."""
    return {"zero": Rival(Black, trains=False), "copy last": Rival(CopyLast, trains=False)}


def horizons(run: Run[Any]) -> tuple[int, int]:
    """Frames given, and frames predicted in a test; the fewest in a dry run."""
    return (1, 2) if run.dry else (run.budget.given, run.budget.ahead)


def cut(clips: Tensor, given: int) -> tuple[Tensor, Tensor]:
    """The frames that a prediction starts from, and all that follow."""
    return clips[:, :given], clips[:, given:]
