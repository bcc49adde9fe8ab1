"""er.augment: move every sample of a batch by its own random group element, drawn by one of three policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args, overload

import torch
from torch import Generator, Tensor, nn

from erlangen.actions import Tree, tree_leaves, tree_map
from erlangen.errors import ErlangenError, OrbitError, SymmetryError, UnknownNameError
from erlangen.measure.bring import labels, sample_count
from erlangen.measure.checks import batch_length
from erlangen.measure.evaluate import moved_labels
from erlangen.measure.inputs import as_tree
from erlangen.measure.orbit import orbit
from erlangen.measure.padding import padded_symmetry
from erlangen.measure.samples import Padded, is_list_of_samples
from erlangen.soft.policies import AdversarialAugment, ConstrainedAugment, SampleLoss, Transform
from erlangen.symmetry import Symmetry


@dataclass
class Augment:
    """A transform ``augment(x, y, generator=...) -> (g x, g y)``; see `augment`."""

    symmetry: Symmetry
    probability: float = 1.0
    elements: Tensor | None = None

    def __call__(self, x: Tree, y: Tree | None = None, *, generator: Generator | None = None) -> Any:
        """Move a batch; returns ``(x, y)``, or x alone when y is not given.

        Arrays and lists of numbers come back as tensors, a list of samples (also of different size) as a list of them.
        """
        action = self.symmetry.input
        y = None if y is None else as_tree(labels(y, sample_count(x), self.symmetry.output.action), "y")
        if is_list_of_samples(x, action.action):
            each = [as_tree(sample, f"x[{i}]") for i, sample in enumerate(x)]
            g = self.draw(len(each), generator, tree_leaves(each[0])[0])
            rows = [tree_map(lambda leaf: leaf[None], sample) for sample in each]
            moved: Tree = [
                tree_map(lambda leaf: leaf[0], action.act(g[i : i + 1].to(tree_leaves(row)[0].device), row))
                for i, row in enumerate(rows)
            ]
        elif isinstance(x, Padded):
            padded = padded_symmetry(self.symmetry).input
            g = self.draw(batch_length(x), generator, tree_leaves(x)[0])
            moved = Padded(**padded.act(g, x._asdict()))
        else:
            x = as_tree(x)
            g = self.draw(batch_length(x), generator, tree_leaves(x)[0])
            moved = action.act(g, x)
        return moved if y is None else (moved, moved_labels(self.symmetry.output, g, y))

    def draw(self, samples: int, generator: Generator | None, like: Tensor) -> Tensor:
        """One element per sample, in the dtype and on the device of `like`."""
        group = self.symmetry.group
        if self.elements is None:
            dtype = like.dtype if like.is_floating_point() else None
            g = self.symmetry.domain.sample(samples, generator=generator, dtype=dtype).to(like.device)
        else:
            index = torch.randint(len(self.elements), (samples,), generator=generator)
            g = self.elements[index].to(like.device)
        if self.probability < 1:
            stay = (torch.rand(samples, generator=generator) >= self.probability).to(like.device)
            identity = group.identity(device=like.device).to(g.dtype)
            g = torch.where(stay.reshape(-1, *([1] * len(group.shape))), identity, g)
        return g


Policy = Literal["uniform", "adversarial", "constrained"]


@overload
def augment(
    symmetry: Symmetry,
    *,
    policy: Literal["uniform"] = "uniform",
    probability: float = 1.0,
    elements: Tensor | None = None,
) -> Augment: ...


@overload
def augment(
    symmetry: Symmetry | Transform,
    *,
    policy: Literal["adversarial"],
    probability: float = 1.0,
    elements: Tensor | None = None,
    model: nn.Module,
    loss: SampleLoss,
    tries: int = 4,
) -> AdversarialAugment: ...


@overload
def augment(
    symmetry: Symmetry | Transform | Sequence[Symmetry | Transform],
    *,
    policy: Literal["constrained"],
    probability: float = 1.0,
    elements: Tensor | None = None,
    model: nn.Module,
    loss: SampleLoss,
    limit: float | Sequence[float],
    tries: int = 2,
    dual_lr: float = 1e-2,
    seed: int = 0,
) -> ConstrainedAugment: ...


def augment(
    symmetry: Symmetry | Transform | Sequence[Symmetry | Transform],
    *,
    policy: Policy = "uniform",
    probability: float = 1.0,
    elements: Tensor | None = None,
    model: nn.Module | None = None,
    loss: SampleLoss | None = None,
    limit: float | Sequence[float] | None = None,
    tries: int | None = None,
    dual_lr: float = 1e-2,
    seed: int = 0,
) -> Augment | AdversarialAugment | ConstrainedAugment:
    """Random symmetry transformations of inputs together with their targets, for training.

    Policies: "uniform" moves every sample by a random element. "adversarial" draws `tries` elements for every sample and
    takes the one of the largest loss. "constrained" draws elements in proportion to their loss and moves as many samples
    as a bound on that loss demands (Hounie, Chamon and Ribeiro 2023); see `ConstrainedAugment`.

    Args:
        symmetry: inputs move by its input action, targets by its output action. With a model that watches, also any
            transform ``(x, y, generator=...) -> (x, y)``; with "constrained" a list of these, each under its own bound.
        policy: see above.
        probability: share of the samples that are moved at all.
        elements: draw from these ``[K, *shape]`` instead of the whole group (Haar measure where the group is compact, its
            documented proposal elsewhere) or the range that the symmetry names.
        model: the model in training, for all policies but "uniform".
        loss: ``loss(prediction, target) -> [B]``, not negative, for all policies but "uniform".
        limit: largest accepted mean loss on moved samples, for "constrained"; one for all or one each.
        tries: elements drawn per sample, each of which costs a forward pass; 4 for "adversarial", 2 for "constrained".
        dual_lr: step size of the multipliers of "constrained".
        seed: seed of `ConstrainedAugment.objective`.

    Raises:
        SymmetryError: not a `Symmetry`.
        UnknownNameError: the policy is not known.
        ErlangenError: a probability outside 0..1, or arguments that the policy needs or does not take.
        OrbitError, GroupElementError: `elements` is empty or no batch, or holds something that is no element.
    """
    if policy not in get_args(Policy):
        raise UnknownNameError(f"policy = {policy!r}; known policies are {', '.join(get_args(Policy))}")
    if policy == "uniform":
        return _uniform(symmetry, probability, elements)
    if model is None or loss is None or (limit is None) == (policy == "constrained"):
        limits = ", limit=" if policy == "constrained" else ", without limit="
        raise ErlangenError(f"policy = {policy!r} looks at the model: pass model=, loss={limits}")
    items = list(symmetry) if isinstance(symmetry, Sequence) else [symmetry]
    families = [item if callable(item) else _uniform(item, probability, elements) for item in items]
    if policy == "adversarial":
        if len(families) != 1:
            raise ErlangenError("policy = 'adversarial' takes one symmetry; make one of a product group")
        return AdversarialAugment(families[0], model, loss, 4 if tries is None else tries)
    limits = list(limit) if isinstance(limit, Sequence) else [cast("float", limit)] * len(families)
    steps = 2 if tries is None else tries
    return ConstrainedAugment(families, model, loss, limits, steps=steps, dual_lr=dual_lr, seed=seed)


def _uniform(symmetry: object, probability: float, elements: Tensor | None) -> Augment:
    if not isinstance(symmetry, Symmetry):
        raise SymmetryError(f"symmetry is a {type(symmetry).__name__}; pass er.Symmetry(group, input=..., output=...)")
    if not 0 <= probability <= 1:
        raise ErlangenError(f"probability = {probability}: give a number from 0 to 1")
    if elements is not None:
        if not isinstance(elements, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise OrbitError(f"elements is a {type(elements).__name__}; give a tensor of elements [K, ...]")
        elements = orbit(symmetry.domain, elements).elements
    return Augment(symmetry, probability, elements)
