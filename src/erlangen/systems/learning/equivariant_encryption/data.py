"""Digits and text of this system's runs, and the public models that are trained on them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

import erlangen as er
from erlangen.actions import WeightStreams
from erlangen.data import CHARACTERS, character_ids, digits, library_text
from erlangen.groups import O, Symmetric
from erlangen.survey import Run, Sizes
from erlangen.systems.learning.equivariant_encryption._transformer import LanguageModel
from erlangen.systems.learning.equivariant_encryption.method import (
    ObfuscatedModel,
    ObfuscationClient,
    ObfuscationKey,
    obfuscated_streams,
)

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
    """RMSNorm, rotary positions, SwiGLU, heads of 16 units, for characters."""
    return LanguageModel(len(CHARACTERS), d, d // 16, hidden, layers)


def percent_right(answers: Tensor, y: Tensor) -> float:
    """Right answers in percent."""
    return 100 * float((answers.argmax(-1) == y).double().mean())


# --- a run ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        digits: that train the public models, that an attacker has, and that the user sends.
        epochs: over digits.
        width, gated, layers, window: of the language model, and its length of text.
        texts: windows that train the language model, that choose nothing, and that the user sends; `text_epochs` over them.
        queries: windows of the decoders that invert features, likewise.
        forwards: that are timed, in turns.
        keys: wrong ones.
        symbols, tokens: lengths of the user's text in characters and in words; `types` is the number of words.
        reference: characters of the attacker's text.
        seconds: of processor time for the attacks of the vendor's note, at least.
    """

    seeds: int
    digits: Sizes
    epochs: int
    width: int
    gated: int
    layers: int
    window: int
    texts: Sizes
    text_epochs: int
    queries: Sizes
    query_epochs: int
    forwards: int
    keys: int
    symbols: tuple[int, ...]
    tokens: tuple[int, ...]
    types: int
    reference: int
    seconds: float


@dataclass(frozen=True)
class Public:
    """A trained model, how its user obfuscates it, and the data."""

    model: nn.Module
    key: ObfuscationKey
    client: ObfuscationClient
    parts: Parts

    @functools.cached_property
    def obfuscated(self) -> ObfuscatedModel:
        """Client and server."""
        return ObfuscatedModel(self.model, self.key, self.client)


class Models:
    """The public models of a run, each trained when it is first asked for."""

    def __init__(self, run: Run[Budget]) -> None:
        self.run = run
        self.epochs = 1 if run.dry else run.budget.epochs
        self._made: dict[tuple[str, int], Public] = {}

    def __call__(self, kind: str, seed: int) -> Public:
        """Of a kind: "perceptron", "convolutions" or "transformer"."""
        if (kind, seed) not in self._made:
            self._made[kind, seed] = {
                "perceptron": self._perceptron,
                "convolutions": self._convolutions,
                "transformer": self._transformer,
            }[kind](seed)
        return self._made[kind, seed]

    def _perceptron(self, seed: int) -> Public:
        parts = digit_parts(seed, self.run.sizes(self.run.budget.digits), vectors)
        net = trained(perceptron, *parts.train, self.epochs, seed)
        assert isinstance(net, nn.Sequential)
        key = self.key(obfuscated_streams(net, parts.train[0][:1], input=O(196), output=Symmetric(10)), seed)
        return Public(net, key, ObfuscationClient(key), parts)

    def _convolutions(self, seed: int) -> Public:
        parts = digit_parts(seed, self.run.sizes(self.run.budget.digits), patches)
        net = trained(convolutions, *parts.train, self.epochs, seed)
        key = self.key(obfuscated_streams(net, parts.train[0][:1], input=O(16), output=Symmetric(10)), seed)
        return Public(net, key, ObfuscationClient(key, axis=1), parts)

    def _transformer(self, seed: int) -> Public:
        b, sizes = self.run.budget, self.run.sizes(self.run.budget.texts)
        sent = (windows(part, n, b.window, seed) for part, n in zip((TRAIN, REFERENCE, USER), sizes, strict=True))
        parts = Parts(*sent)
        epochs = 1 if self.run.dry else b.text_epochs
        net = trained(lambda: language_model(b.width, b.gated, b.layers), *parts.train, epochs, seed, 32)
        assert isinstance(net, LanguageModel)
        folded = net.folded()
        key = self.key(folded.streams(), seed)
        return Public(folded, key, ObfuscationClient(key, "vocabulary", "vocabulary"), parts)

    @staticmethod
    def key(streams: WeightStreams, seed: int, name: str = "user") -> ObfuscationKey:
        """A key of a seed, for a repeatable run; a user's comes from random bytes."""
        return ObfuscationKey.generate(streams, f"{name} {seed}".encode())
