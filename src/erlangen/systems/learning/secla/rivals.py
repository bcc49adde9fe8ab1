"""What is compared: set losses on the same projectors, expectation and maximisation without a network, guesses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import ive
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from erlangen.errors import NotFiniteError
from erlangen.survey import Rival, Split, Training
from erlangen.systems.learning.secla._documents import NONAME, Documents
from erlangen.systems.learning.secla._easy_to_hard import EasyToHard, Gallery, is_easy
from erlangen.systems.learning.secla.method import Network, SetLoss, embed, set_similarities, similarity

PERIOD = 32
"""Batches in which the learning rate falls to zero, and in which it rises again."""

EARLY = 15 * 158 / (15 * 158 + 20 * 549)
"""Share of the steps that the authors' first stage has: 15 epochs of 3142 documents, then 20 of 10976, in batches of 20."""

Loss = Callable[[Network, Documents, Tensor, Generator], Tensor]
"""``loss(network, documents, truth, generator)`` of a batch."""


# --- training --------------------------------------------------------------------------------------------------------
def decayed_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Parameters with the authors' decay, and biases without."""
    named = list(network.named_parameters())
    return [
        {"params": [p for n, p in named if "bias" not in n], "weight_decay": 0.1},
        {"params": [p for n, p in named if "bias" in n], "weight_decay": 0.0},
    ]


def train(
    network: nn.Module, loss: Loss, data: tuple[Documents, Tensor], steps: int, batch: int, rate: float, g: Generator
) -> None:
    """Steps of AdamW as in the authors' scripts: shuffled batches, a rate that swings between its value and zero."""
    documents, truth = data
    optimizer = torch.optim.AdamW(decayed_groups(network), lr=rate, betas=(0.9, 0.999), eps=1e-6)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=PERIOD)
    batches: list[Tensor] = []
    for _ in range(steps):
        if not batches:
            batches = [b for b in torch.randperm(len(truth), generator=g).split(batch) if len(b) > 1]
        rows = batches.pop()
        value = loss(network, documents.take(rows), truth[rows], g)  # pyright: ignore[reportArgumentType]
        if not bool(value.isfinite()):
            raise NotFiniteError(f"the loss is {float(value.detach())} at the rate {rate:g}; take a smaller one")
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()


def read(split: Split) -> tuple[Documents, Tensor]:
    """Documents and truths that a split trains on."""
    x, y = split.train
    return Documents(**x), y


def steps_of(training: Training, documents: int) -> int:
    """All steps of a training."""
    return training.epochs * -(-documents // training.batch)


def trained(make: Callable[[], nn.Module], loss: Loss) -> Rival:
    """A network that is trained on all documents from the start."""

    def fit(network: nn.Module, split: Split, rate: float, training: Training, generator: Generator) -> None:
        data = read(split)
        train(network, loss, data, steps_of(training, len(data[1])), training.batch, rate, generator)

    return Rival(make, fit=fit)


def staged(make: Callable[[], nn.Module], loss: SetLoss) -> Rival:
    """SECLA-B: easy documents first, then all; together as many steps as the others."""

    def fit(network: nn.Module, split: Split, rate: float, training: Training, generator: Generator) -> None:
        documents, truth = read(split)
        total = steps_of(training, len(truth))
        early = max(1, round(EARLY * total / (2 * PERIOD)) * 2 * PERIOD if total > 8 * PERIOD else total // 2)
        easy = is_easy(documents)
        train(network, plain(loss), (documents.take(easy), truth[easy]), early, training.batch, rate, generator)
        null = torch.randn(documents.faces.shape[2:], generator=generator)
        hard = EasyToHard(loss, Gallery.of(documents, int(documents.ids.max()) + 1), null)

        def late(network: Network, documents: Documents, truth: Tensor, generator: Generator) -> Tensor:
            return hard(network, documents, generator)

        train(network, late, (documents, truth), total - early, training.batch, rate, generator)

    return Rival(make, fit=fit)


# --- losses ----------------------------------------------------------------------------------------------------------
def plain(loss: Callable[[Documents], Tensor]) -> Loss:
    """A loss of projected documents that does not know who is who."""

    def of(network: Network, documents: Documents, truth: Tensor, generator: Generator) -> Tensor:
        return loss(embed(network, documents))

    return of


@dataclass(frozen=True)
class Hinge:
    """The set loss with a margin on cosines, in both directions: the mean over all other documents of what is too near."""

    margin: float = 0.2

    def __call__(self, z: Documents) -> Tensor:
        """The loss of projected documents, a scalar."""
        total = z.faces.new_zeros(())
        for s in set_similarities(z, temperature=1.0):
            other = ~torch.eye(len(s), dtype=torch.bool, device=s.device)
            total = total + (self.margin + s - s.diagonal()[:, None])[other].relu().mean()
        return total


def supervised(network: Network, documents: Documents, truth: Tensor, generator: Generator) -> Tensor:
    """Cross-entropies of the true names of faces, among the names of their caption and among all names of the batch."""
    z = embed(network, documents)
    truth = truth[:, : z.face_mask.shape[1]]
    known = z.face_mask & (truth >= 0)
    ids, inverse = torch.unique(z.ids[z.name_mask], return_inverse=True)
    first = torch.full((len(ids),), len(inverse)).scatter_reduce(0, inverse, torch.arange(len(inverse)), "amin")
    logits = z.faces[known] @ z.names[z.name_mask][first].mT
    place = (z.ids[:, None] == truth[..., None]).int().argmax(-1)
    return cross_entropy(logits, torch.searchsorted(ids, truth[known])) + cross_entropy(
        similarity(z)[known], place[known]
    )


# --- answers ---------------------------------------------------------------------------------------------------------
def scores(model: Any, documents: Documents, generator: Generator) -> Tensor:
    """Scores ``[B, R, S]`` of the names of each face."""
    if isinstance(model, nn.Module):
        network: Any = model
        with torch.no_grad():
            faces, names = network.project_faces(documents.faces), network.project_names(documents.names)
            return similarity(documents._replace(faces=faces, names=names))
    return model.scores(documents, generator)


class Guess:
    """Any name of the caption, or NONAME, with equal chances."""

    def scores(self, documents: Documents, generator: Generator) -> Tensor:
        """Random numbers."""
        u = torch.rand(*documents.face_mask.shape, documents.ids.shape[1], generator=generator)
        return u.masked_fill(~documents.name_mask[:, None], -torch.inf)


class Expectation:
    """A mixture without a network: every name has a direction, faces lie about it, and a chance of being pictured when named.

    Expectation and maximisation over which name of its caption a face has; NONAME has no direction.
    """

    def __init__(self) -> None:
        self.concentration = 0.0
        self.means: Tensor | None = None
        self.chance = torch.full((1,), 0.5)

    def fit(self, documents: Documents, concentration: float, rounds: int = 20) -> None:
        """Rounds of expectation and maximisation; with the concentration 0 faces are not looked at."""
        self.concentration = concentration
        n = int(documents.ids.max()) + 2  # the last row is for names that training has not seen
        ids, x = documents.ids.clamp(min=0), documents.faces
        # At first only faces that are more than the names have none; else NONAME, which every caption has, takes all.
        people = documents.name_mask & (documents.ids != NONAME)
        count, names = documents.face_mask.sum(1, keepdim=True), people.sum(1, keepdim=True)
        none = (count - names).clamp(min=0) / count
        first = torch.where(people, (1 - none) / names, torch.where(documents.name_mask, none, 0.0))
        share = first[:, None] * documents.face_mask[..., None]
        named = torch.bincount(ids[documents.name_mask], minlength=n).float()
        for _ in range(rounds):
            each = torch.zeros(n).index_add(0, ids.flatten(), share.sum(1).flatten())
            self.chance = (each + 0.5) / (named + 1)
            if concentration:
                pulled = torch.einsum("brs,brp->bsp", share, x).flatten(0, 1)
                self.means = normalize(torch.zeros(n, x.shape[-1]).index_add(0, ids.flatten(), pulled), dim=-1)
            share = self.scores(documents).softmax(-1) * documents.face_mask[..., None]

    def scores(self, documents: Documents, generator: Generator | None = None) -> Tensor:
        """Logarithms of what each name and a face have together."""
        ids = documents.ids.clamp(min=0, max=len(self.chance) - 1)
        found = self.chance[ids].log()[:, None].expand(-1, documents.face_mask.shape[1], -1)
        if self.means is not None:
            near = self.concentration * documents.faces @ self.means[ids].mT
            known = (ids != NONAME) & self.means[ids].any(-1)
            gain = log_constant(documents.faces.shape[-1], self.concentration)
            found = found + torch.where(known[:, None], near + gain, 0.0)
        return found.masked_fill(~documents.name_mask[:, None], -torch.inf)


def log_constant(dim: int, concentration: float) -> float:
    """Logarithm of the density of a von Mises-Fisher distribution over the uniform one, without the exponential."""
    order = dim / 2 - 1
    bessel = np.log(ive(order, concentration)) + concentration
    log_gamma = float(torch.lgamma(torch.tensor(dim / 2, dtype=torch.float64)))
    return float(order * np.log(concentration / 2) - bessel - log_gamma)


def expectation(concentrations: tuple[float, ...]) -> Rival:
    """`Expectation`, its concentration chosen as the learning rates of the others are."""

    def fit(model: Expectation, split: Split, rate: float, training: Training, generator: Generator) -> None:
        model.fit(read(split)[0], rate)

    return Rival(Expectation, fit=fit, rates=concentrations)


def counting() -> Rival:
    """`Expectation` that does not look at faces: which names are pictured when they are named."""

    def prepare(model: Expectation, split: Split) -> None:
        model.fit(read(split)[0], 0.0)

    return Rival(Expectation, prepare=prepare, trains=False)


SET_LOSSES: dict[str, SetLoss | Hinge] = {
    "names ask": SetLoss(0, "names"),
    "faces ask": SetLoss(0, "faces"),
    "both": SetLoss(0),
    "SECLA": SetLoss(),
    "hinge": Hinge(),
}
"""Losses of the networks that are trained on all documents."""
