"""Who reads hidden features: linear decoders trained on the reader's own queries, with protection, without, and under noise."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from erlangen.survey import Split

Source = Literal["plain", "server", "other"]


class Decoder(nn.Module):
    """Ids ``[N, vocabulary]`` from the features ``[N, d]`` that somebody sees.

    Args:
        d, vocabulary: sizes.
        source: whose features: of the original model, or of the obfuscated one; "other" trains on features under a key that the
            client has replaced since.
        noise: standard deviation of what is added, where features have a mean square of one.
        head: reads the next id from features, for what noise costs.
    """

    def __init__(self, d: int, vocabulary: int, source: Source, noise: float, head: nn.Linear) -> None:
        super().__init__()
        self.source, self.noise, self._head = source, noise, [head]  # in a list: it is no part of the decoder
        self.read = nn.Linear(d, vocabulary)

    def seen(self, plain: Tensor, server: Tensor, other: Tensor, noise: Tensor) -> Tensor:
        """What the reader sees."""
        source = {"plain": plain, "server": server, "other": other if self.training else server}[self.source]
        return source + self.noise * noise

    def forward(self, plain: Tensor, server: Tensor, other: Tensor, noise: Tensor) -> Tensor:
        """Logits."""
        return self.read(self.seen(plain, server, other, noise))

    def next_ids(self, plain: Tensor, noise: Tensor) -> Tensor:
        """What the client is told that comes next, under the same noise."""
        return self._head[0](plain + self.noise * noise).argmax(-1)


class Guess(nn.Module):
    """The most frequent id, always."""

    counts: Tensor

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.register_buffer("counts", torch.zeros(vocabulary))

    @staticmethod
    def prepare(model: Guess, split: Split) -> None:
        """Count ids."""
        model.counts = torch.bincount(split.train[1], minlength=model.vocabulary).float()

    def forward(self, plain: Tensor, server: Tensor, other: Tensor, noise: Tensor) -> Tensor:
        """The same logits for all."""
        return self.counts.expand(len(plain), -1)
