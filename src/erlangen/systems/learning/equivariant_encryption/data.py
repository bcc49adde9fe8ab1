"""Digits and text of this system's runs, and the models that are trained on them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

import erlangen as er
from erlangen.data import CHARACTERS, character_ids, digits, library_text
from erlangen.survey import Sizes
from erlangen.systems.learning.equivariant_encryption._transformer import LanguageModel

TRAIN, REFERENCE, USER = range(3)
"""Parts of the text, without a file in common: what the public model learned, what the attacker has, what the user writes."""


class Parts(NamedTuple):
    """What trains the public model, what an attacker has, and what a user sends; inputs and labels."""

    train: tuple[Tensor, Tensor]
    reference: tuple[Tensor, Tensor]
    user: tuple[Tensor, Tensor]


def vectors(x: Tensor) -> Tensor:
    """Pictures ``[N, 1, 28, 28]`` as vectors ``[N, 196]``: means of 2 x 2 pixels."""
    return F.avg_pool2d(x, 2).flatten(1)


def patches(x: Tensor) -> Tensor:
    """Pictures ``[N, 1, 28, 28]`` as ``[N, 16, 7, 7]``: the 16 pixels of each patch are channels, which a key may mix."""
    return F.pixel_unshuffle(x, 4)


def digit_parts(seed: int, sizes: Sizes, form: Callable[[Tensor], Tensor]) -> Parts:
    """Digits in an order of the seed; the user's are test digits."""
    x, y, _ = digits("train")
    order = torch.randperm(len(x), generator=Generator().manual_seed(seed))[: sizes.train + sizes.validation]
    own, labels, _ = digits("test")
    first, second = order[: sizes.train], order[sizes.train :]
    user = torch.randperm(len(own), generator=Generator().manual_seed(seed))[: sizes.test]
    return Parts((form(x[first]), y[first]), (form(x[second]), y[second]), (form(own[user]), labels[user]))


@functools.cache
def characters(part: int) -> Tensor:
    """One third of the text as ids."""
    return character_ids(library_text(part, 3))


def windows(part: int, n: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
    """Ids ``[n, length]`` from random places of a part of the text, and the ids that follow each."""
    ids = characters(part)
    begin = torch.randint(len(ids) - length, (n, 1), generator=Generator().manual_seed(seed))
    there = ids[begin + torch.arange(length + 1)]
    return there[:, :-1], there[:, 1:]


def perceptron() -> nn.Sequential:
    """196 - 128 - 64 - 10."""
    return nn.Sequential(nn.Linear(196, 128), nn.ReLU(), nn.Linear(128, 64), nn.Tanh(), nn.Linear(64, 10))


def convolutions(width: int = 32) -> nn.Sequential:
    """Two convolutions with batch normalisation on patches, and a linear answer."""
    return nn.Sequential(
        nn.Conv2d(16, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(9 * width, 10),
    )  # fmt: skip


def trained(make: Callable[[], nn.Module], x: Tensor, y: Tensor, epochs: int, seed: int, batch: int = 50) -> nn.Module:
    """A public model, trained with AdamW; in eval mode."""
    torch.manual_seed(seed)
    model = make()

    def loss(answers: Tensor, due: Tensor) -> Tensor:
        return F.cross_entropy(answers.flatten(0, -2), due.flatten())

    schedule = er.training.one_cycle
    er.fit(
        model, x, y, loss=loss, epochs=epochs, batch_size=batch, lr=3e-3, schedule=schedule, seed=seed, progress=False
    )
    return model.eval()


def language_model(d: int, hidden: int, layers: int) -> LanguageModel:
    """RMSNorm, rotary positions, SwiGLU, for characters; the last gain is not tied to the embedding."""
    return LanguageModel(len(CHARACTERS), d, 4, hidden, layers)
