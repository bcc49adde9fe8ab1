"""What is compared: four sets to train on, each with four ways to weigh groups, and real pictures without a bias."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Generator, Tensor, nn

from erlangen.survey import Rival, Split, Training
from erlangen.systems.learning.from_fake_to_real._groups import Grouped, contingency, mix
from erlangen.systems.learning.from_fake_to_real._losses import Readout, reweight_last_layer
from erlangen.systems.learning.from_fake_to_real.data import BALANCED, BIASED, GENERATED, unpacked
from erlangen.systems.learning.from_fake_to_real.method import (
    Stage,
    Within,
    add_equal,
    carry_over,
    fill_to_max,
    take_first,
    train_stage,
)

SETS = ("real", "USB", "ASB", "FFR")
LOSSES = ("ERM", "Resample", "GroupDRO", "DFR")


class ResNet(nn.Module):
    """Two residual blocks: pictures ``[N, 3, H, W]`` to two scores, by pooled features of four times the width.

    Attributes:
        told: columns of the table that training knows.
        readout: in place of the last layer, once it was refitted.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            _Block(width, 2 * width),
            _Block(2 * width, 4 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        cast("Any", self.body).to(memory_format=torch.channels_last)
        self.head = nn.Linear(4 * width, 2)
        self.told: dict[str, Any] = {}
        self.readout: Readout | None = None

    def features(self, x: Tensor) -> Tensor:
        """Pooled, not normalised ``[N, 4 * width]``."""
        return self.body(x.contiguous(memory_format=torch.channels_last))

    def forward(self, x: Tensor) -> Tensor:
        """Scores ``[N, 2]``."""
        features = self.features(x)
        return self.head(features) if self.readout is None else self.readout(nn.functional.normalize(features, dim=1))


class _Block(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.short = nn.Sequential(nn.Conv2d(before, after, 1, stride=2, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.inner(x) + self.short(x))


class Kept(NamedTuple):
    """What several arms share: weights, the state of the generator after them, and the seconds that they cost."""

    weights: dict[str, Tensor]
    state: Tensor
    seconds: float


def arms(width: int) -> dict[str, Rival]:
    """All rivals of one table; those of one seed and rate share the first stage of FFR, and DFR takes the network of ERM."""
    kept: dict[tuple[Any, ...], Kept] = {}
    make = partial(ResNet, width)
    names = {f"{which} + {loss}": (which, loss) for which in SETS for loss in LOSSES}
    rivals = {name: Rival(make, fit=partial(_fit, kept, *what)) for name, what in names.items()}
    return rivals | {"balanced real + ERM": Rival(make, fit=partial(_fit, kept, "balanced real", "ERM"))}


def _fit(
    kept: dict[tuple[Any, ...], Kept],
    which: str,
    loss: str,
    net: ResNet,
    split: Split,
    rate: float,
    training: Training,
    generator: Generator,
) -> None:
    begin = time.process_time()
    real, pool, validation = (
        unpacked(split.train, BIASED),
        unpacked(split.train, GENERATED),
        unpacked(split.validation, BIASED),
    )
    counts = contingency(real.y, real.b)
    fake = take_first(pool, fill_to_max(counts) if which == "USB" else add_equal(counts))
    stage = partial(Stage, training.epochs, rate, training.decay, training.batch)
    # Steps of both stages of FFR, which all others take on what they have; an epoch of a mixture is one of each stage.
    steps = training.epochs * sum(
        -(-len(part) // training.batch) for part in (real, take_first(pool, add_equal(counts)))
    )
    data = real
    if which in ("USB", "ASB"):
        data = mix(real, fake)
    elif which == "balanced real":
        data = unpacked(split.train, BALANCED)

    def shared(part: str, train: Callable[[], float]) -> float:
        """Train this part, or take it from an arm that has; seconds that it cost at another time."""
        key = (which, generator.initial_seed(), rate, part)
        if key in kept:
            carry_over(net, kept[key].weights)
            net.eval()
            generator.set_state(kept[key].state)
            return kept[key].seconds
        start = time.process_time()
        earlier = train()
        seconds = time.process_time() - start + earlier
        kept[key] = Kept(copy.deepcopy(net.state_dict()), generator.get_state(), seconds)
        return earlier

    def one(what: Grouped, how: Stage) -> float:
        train_stage(net, what, validation, how, generator=generator)
        return 0.0

    def whole(within: Within) -> float:
        if which != "FFR":
            return one(data, stage(within=within, steps=steps))
        earlier = shared("first", lambda: one(fake, stage()))
        return earlier + one(real, stage(within=within))

    if loss in ("ERM", "DFR"):
        earlier = shared("ERM", lambda: whole("ERM"))
    else:
        earlier = whole("Resample" if loss == "Resample" else "GroupDRO")
    samples = len(data) + len(fake) * (which == "FFR")
    if loss == "DFR":
        net.readout, samples = refitted(net, data, validation, generator), samples + len(validation)
    seconds = time.process_time() - begin + earlier
    net.told = {"samples": samples, "seconds": seconds, "steps": steps}


@torch.no_grad()
def refitted(net: ResNet, data: Grouped, validation: Grouped, generator: Generator) -> Readout:
    """The last layer from validation samples with balanced groups; features have length 1."""
    net.eval()
    seen, held = (
        torch.cat([nn.functional.normalize(net.features(piece), dim=1) for piece in x.split(500)])
        for x in (data.x, validation.x)
    )
    return reweight_last_layer(seen, held, validation.y, validation.b, generator=generator)
