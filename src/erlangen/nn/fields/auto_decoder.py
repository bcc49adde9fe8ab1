"""Codes by a few steps of descent, and networks that are trained through these steps.

An auto-decoder has no encoder: the code of a sample is what makes the field fit it. Meta-learning (Finn et al., MAML, ICML
2017) makes a few steps from a common start enough; Meta-SGD (Li et al. 2017) learns the length of the steps too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from erlangen.actions import Tree, tree_map
from erlangen.errors import ErlangenError, ShapeError, UnknownNameError, check_finite
from erlangen.nn.fields._dense import check_positive
from erlangen.nn.fields.latents import Latents, latent_action, repeat_latents
from erlangen.symmetry import Symmetry
from erlangen.tracing import is_traced

__all__ = ["AutoDecoder", "inner_sgd"]


def inner_sgd(
    loss: Callable[[Tree, Any], Tensor],
    start: Tree,
    rates: Tree,
    batches: Sequence[Any],
    *,
    second_order: bool = True,
) -> Tree:
    """Steps of gradient descent that can be differentiated through: one for each of the batches.

    >>> w = torch.tensor(1.0, requires_grad=True)
    >>> found = inner_sgd(lambda z, _: (w * z).square() / 2, torch.tensor(2.0), torch.tensor(0.1), [None, None])
    >>> found.detach(), torch.autograd.grad(found, w)[0]                 # 2 (1 - 0.1 w^2)^2, and its derivative by w
    (tensor(1.6200), tensor(-0.7200))

    Gradients are taken also where autograd is switched off around the call. They flow to whatever `loss` holds, to `start`
    and to `rates`, exactly, second derivatives included.

    Args:
        loss: ``loss(values, batch)``, of any shape; its sum counts, so that samples of a batch do not see each other as long
            as each has its own entry.
        start: tensors where the descent begins.
        rates: as `start`, numbers that broadcast against them.
        batches: what each step gets.
        second_order: whether gradients flow through the gradients of the steps; without, these count as constants
            (first-order MAML), which is cheaper and another gradient.

    Returns:
        Tensors like `start`.
    """
    gradient = torch.func.grad(lambda values, batch: loss(values, batch).sum())
    values = start
    for batch in batches:
        steps = gradient(values, batch)
        if not second_order:
            steps = tree_map(torch.detach, steps)
        values = tree_map(lambda value, rate, step: value - rate * step, values, rates, steps)
    return values


class AutoDecoder(nn.Module):
    """A field, a common start of its codes, and learned step sizes: codes are found by descent, then taken as features.

    >>> from erlangen.nn import EquivariantField, latent_grid
    >>> coder = AutoDecoder(EquivariantField(4, 1, width=8), latent_grid(9, 4), rate=1.0)
    >>> x, y = torch.rand(3, 20, 2), torch.rand(3, 20, 1)
    >>> coder((x, y))["features"].shape, coder.loss(x, y).shape
    (torch.Size([3, 9, 4]), torch.Size([]))

    The loss of a sample is the mean square over its points and channels, and losses are summed over samples: the code of a
    sample does not depend on the others. What is not in `moves`, such as the positions of latents, stays as it is.

    Args:
        field: a module ``field(x, code)`` with codes that are dicts of tensors, such as `EquivariantField`.
        start: the common start without a batch axis; it is kept, not learned.
        moves: names of the entries that descend; each has a learned step size for each of its last channels.
        steps: how many.
        rate: step sizes before training.
        shared_rate: one learned step size for all channels rather than one for each.
        second_order: see `inner_sgd`.

    Attributes:
        symmetry: that of the field where it has one and codes are a cloud: samples and starting cloud move together, and the
            cloud that is found moves likewise.

    Raises:
        ErlangenError: `steps` is negative, or `rate` not positive.
        UnknownNameError: `moves` names no entry of `start`.
    """

    def __init__(
        self,
        field: nn.Module,
        start: Latents,
        *,
        moves: Sequence[str] = ("features",),
        steps: int = 3,
        rate: float = 1.0,
        shared_rate: bool = False,
        second_order: bool = True,
    ) -> None:
        super().__init__()
        check_positive("rate", rate)
        if steps < 0:
            raise ErlangenError(f"steps = {steps}: give a number that is not negative")
        unknown = [name for name in moves if name not in start]
        if unknown or not moves:
            raise UnknownNameError(f"moves = {tuple(moves)!r}: choose from {', '.join(start)}")
        self.field, self.moves, self.steps, self.second_order = field, tuple(moves), steps, second_order
        self._names = tuple(start)
        for name, value in start.items():
            self.register_buffer(f"start_{name}", value.clone())
        sizes = {name: () if shared_rate else start[name].shape[-1:] for name in moves}
        self.rates = nn.ParameterDict({name: torch.full(size, float(rate)) for name, size in sizes.items()})

    @property
    def start(self) -> Latents:
        """The common start, without a batch axis."""
        return {name: self.get_buffer(f"start_{name}") for name in self._names}

    @property
    def symmetry(self) -> Symmetry:
        """See the class."""
        inner = getattr(self.field, "symmetry", None)
        if not isinstance(inner, Symmetry) or "pos" not in self._names:
            raise ErlangenError(f"{type(self.field).__name__} with codes of {self._names} declares no symmetry")
        cloud = latent_action(oriented="ori" in self._names)
        return Symmetry(inner.group, input=("points", "invariant", cloud), output=cloud)

    def forward(self, samples: tuple[Tensor, ...] | tuple[Tensor, Tensor, Latents]) -> Latents:
        """Codes ``[B, ...]`` of samples ``(x, y)``, or ``(x, y, start)`` with a start of their own."""
        x, y, *start = samples
        return self.encode(x, y, start=start[0] if start else None)  # pyright: ignore[reportArgumentType]

    def encode(
        self,
        x: Tensor,
        y: Tensor,
        *,
        start: Latents | None = None,
        points: int | None = None,
        generator: Generator | None = None,
    ) -> Latents:
        """The codes of samples.

        Args:
            x: points ``[B, n, d]``.
            y: values ``[B, n, channels]`` there.
            start: ``[B, ...]`` in place of the common start.
            points: each step sees so many random points, the same of all samples; all points without it.
            generator: source of these.

        Raises:
            ShapeError: x and y do not fit, or have fewer points than asked for.
            NotFiniteError: y holds NaN or Inf.
        """
        _check_samples(x, y, points)
        batches = [_subset(x, y, points, generator) for _ in range(self.steps)]
        return self._encode(len(x), batches, start)

    def loss(self, x: Tensor, y: Tensor, *, points: int | None = None, generator: Generator | None = None) -> Tensor:
        """What training minimises: the mean square at other random points, once codes are found."""
        code = self.encode(x, y, points=points, generator=generator)
        return self._errors(code, _subset(x, y, points, generator)).mean()

    def clip_rates(self, low: float = 1e-6, high: float = 10.0) -> None:
        """Bring the learned step sizes back between two bounds, after a step of an optimiser."""
        with torch.no_grad():
            for rate in self.rates.values():
                rate.clamp_(low, high)

    def _encode(self, count: int, batches: Sequence[tuple[Tensor, Tensor]], start: Latents | None) -> Latents:
        code = repeat_latents(self.start, count) if start is None else start
        begin = {name: code[name] for name in self.moves}
        rates: Mapping[str, Tensor] = {name: self.rates[name] for name in self.moves}

        def loss(values: Latents, batch: tuple[Tensor, Tensor]) -> Tensor:
            return self._errors(code | values, batch)

        return code | inner_sgd(loss, begin, dict(rates), batches, second_order=self.second_order)

    def _errors(self, code: Latents, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return (self.field(x, code) - y).square().mean((1, 2))


def _check_samples(x: Tensor, y: Tensor, points: int | None) -> None:
    if x.ndim != 3 or y.ndim != 3 or x.shape[:2] != y.shape[:2]:
        raise ShapeError(
            f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}; give points [B, n, d] and values [B, n, channels]; "
            "samples with other numbers of points are encoded in calls of their own"
        )
    if points is not None and not 1 <= points <= x.shape[1]:
        raise ShapeError(f"points = {points}, but samples have {x.shape[1]}")
    if is_traced():
        return  # values cannot be looked at
    for name, values in (("x", x), ("y", y)):
        check_finite(values, name)


def _subset(x: Tensor, y: Tensor, points: int | None, generator: Generator | None) -> tuple[Tensor, Tensor]:
    if points is None:
        return x, y
    chosen = torch.randperm(x.shape[1], generator=generator)[:points].to(x.device)
    return x[:, chosen], y[:, chosen]
