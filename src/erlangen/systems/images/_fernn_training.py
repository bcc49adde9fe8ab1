"""Training, choosing learning rates and measuring on clips, the same for all models of the comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from erlangen.training import fit, one_cycle

Row = dict[str, Any]
GIVEN = 5
"""Frames that a prediction starts from, and that training predicts."""
Maker = Callable[[], nn.Module]
Data = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Size:
    """How large a part of the experiment is."""

    clips: int
    tests: int
    epochs: int
    lr: float
    batch: int = 8


def trained(make: Maker, data: Data, loss: Loss, size: Size, seed: int) -> nn.Module:
    """A model that has seen the data as often as `size` says."""
    torch.manual_seed(seed)
    model = make()
    fit(
        model,
        *data,
        loss=loss,
        epochs=size.epochs,
        batch_size=size.batch,
        optimizer=lambda p: torch.optim.Adam(p, lr=size.lr),
        schedule=one_cycle,
        clip=1.0,
        seed=seed,
        progress=False,
    )
    return model


def parts(*tensors: Tensor) -> zip[tuple[Tensor, ...]]:
    """Batches that stay in the cache."""
    return zip(*(t.split(20) for t in tensors), strict=True)


@torch.no_grad()
def horizon_errors(model: nn.Module, clips: Tensor, horizon: int) -> Tensor:
    """Squared errors ``[B, horizon]``, means over pixels, of the frames after the first five of ``[B, 5 + horizon, 1, H, W]``."""
    x, y = clips[:, :GIVEN], clips[:, GIVEN : GIVEN + horizon]
    return torch.cat([(model(a, horizon) - b).square().mean((2, 3, 4)) for a, b in parts(x, y)])


class Black(nn.Module):
    """Predicts black frames."""

    def forward(self, x: Tensor, horizon: int) -> Tensor:
        """Zeros ``[B, horizon, 1, H, W]``."""
        return torch.zeros_like(x[:, -1:]).expand(-1, horizon, -1, -1, -1)


class CopyLast(nn.Module):
    """Repeats the last frame."""

    def forward(self, x: Tensor, horizon: int) -> Tensor:
        """``[B, horizon, 1, H, W]``."""
        return x[:, -1:].expand(-1, horizon, -1, -1, -1)


UNTRAINED: dict[str, Callable[[], nn.Module]] = {"zero": Black, "copy last": CopyLast}


def facts(model: nn.Module, x: Tensor, size: Size) -> Row:
    """Columns that say what a model cost; millions of floating-point operations are of one clip of x, forwards."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x[:1])
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "MFLOP": round(counter.get_total_flops() / 1e6),
        "learning rate": f"{size.lr:g}",
        "epochs": size.epochs,
        "clips": size.clips,
    }
