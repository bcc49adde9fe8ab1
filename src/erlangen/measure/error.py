"""Short measurements: one number, one assertion, the Lie derivative, the resampling floor."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from erlangen.actions import Tree, tree_leaves, tree_map
from erlangen.errors import (
    ModelError,
    NotEquivariantError,
    NotFiniteError,
    OrbitError,
    StepWarning,
    SymmetryError,
    UnknownNameError,
)
from erlangen.measure.bring import bring
from erlangen.measure.checks import check_chunk, check_data, float_dtype, probe
from erlangen.measure.evaluate import Block, Chunk, evaluate_block, relative_error, squares
from erlangen.measure.models import Model, ModelLike
from erlangen.measure.orbit import orbit
from erlangen.measure.samples import unloaded
from erlangen.measure.scale import Scale, check_scale, spread_factors
from erlangen.symmetry import Symmetry

Reduction = Literal["mean", "max", "none"]


def declared_symmetry(model: object, symmetry: Symmetry | None) -> Symmetry:
    """The symmetry given, or the one that the model carries as ``.symmetry``."""
    found = symmetry if symmetry is not None else getattr(model, "symmetry", None)
    if not isinstance(found, Symmetry):
        raise SymmetryError(
            f"{type(model).__name__} declares no symmetry: pass symmetry=er.Symmetry(group, input=..., output=...)"
            if found is None
            else f"symmetry is a {type(found).__name__}; pass er.Symmetry(group, input=..., output=...)"
        )
    return found


def equivariance_error(
    model: ModelLike,
    symmetry: Symmetry | None,
    x: Tree,
    *,
    elements: int | Tensor | None = None,
    reduce: Reduction = "mean",
    scale: Scale = "norm",
    chunk: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Relative error ``||f(gx) - g f(x)|| / ||f(x)||`` of a model, in float64.

    Args:
        model: torch module (measured in eval mode), callable, or path of an ONNX file.
        symmetry: the symmetry, or ``None`` for the one the model carries.
        x: a batch ``[B, ...]``, or a tree of batches.
        elements: as for `erlangen.measure.orbit`.
        reduce: "mean" or "max" over elements and samples (a scalar), or "none" (``[K, B]``).
        scale: "norm" divides by ``||f(x)||``; "spread" by how much f varies over the samples, as for `erlangen.audit`.
        chunk: elements per model call; by default found by timing.
        seed: seed of sampled elements.

    Raises:
        What `erlangen.audit` raises; `UnknownNameError` for another `reduce` or `scale`.
    """
    symmetry = declared_symmetry(model, symmetry)
    if reduce not in ("mean", "max", "none"):
        raise UnknownNameError(f"reduce = {reduce!r} is not known; choose 'mean', 'max' or 'none'")
    check_scale(scale)
    errors = _on_orbits(model, symmetry, x, elements, chunk, seed, scale).errors
    if reduce == "none":
        return errors
    return errors.mean() if reduce == "mean" else errors.max()


def _on_orbits(
    model: ModelLike,
    symmetry: Symmetry,
    x: Tree,
    elements: int | Tensor | None,
    chunk: int | None,
    seed: int,
    scale: Scale = "norm",
) -> Block:
    """Errors of a batch, all at once."""
    check_chunk(chunk)
    wrapped, symmetry, x, _ = bring(model, symmetry, x)
    check_data(x)
    visited = orbit(symmetry.domain, elements, seed=seed, dtype=float_dtype(x), device=tree_leaves(x)[0].device)
    with wrapped.measuring():
        base = probe(wrapped, symmetry, x)
        whole = len(tree_leaves(base)[0]) == len(tree_leaves(x)[0])  # the probe takes the first samples
        policy = Chunk.of(wrapped, x, chunk)
        block = evaluate_block(
            wrapped,
            symmetry,
            visited.elements,
            x,
            None,
            None,
            policy,
            consensus=False,
            base=base if whole else None,
        )
        factors = spread_factors(wrapped, symmetry, visited.elements, x) if scale == "spread" else None
    return block if factors is None else replace(block, errors=block.errors * factors)


def assert_equivariant(
    model: ModelLike,
    x: Tree,
    symmetry: Symmetry | None = None,
    *,
    tol: float | Mapping[str, float] | None = None,
    elements: int | Tensor | None = 100,
    seed: int = 0,
) -> float:
    """Raise `NotEquivariantError` unless the worst relative error stays below `tol`; return that error.

    Args:
        model, x, symmetry, elements, seed: as for `equivariance_error`.
        tol: bound on the worst error; by default 1e-5 in float32 and 1e-12 in float64. Where the model answers with a dict
            or tuple it bounds the error of every entry, so that large energies hide no wrong forces; a dict gives bounds
            by entry, ``{"forces": 1e-3}`` or ``{"0": 1e-3}``, and the others have the default.
    """
    symmetry = declared_symmetry(model, symmetry)
    x, _ = unloaded(x)
    block = _on_orbits(model, symmetry, x, elements, None, seed, "norm")
    usual = 1e-12 if float_dtype(bring(model, symmetry, x).x) == torch.float64 else 1e-5
    bounds = dict(tol) if isinstance(tol, Mapping) else {}
    unknown = [entry for entry in bounds if entry not in block.entries]
    if unknown:
        known = ", ".join(block.entries) or "no entries, but one tensor"
        raise UnknownNameError(f"tol names {unknown[0]!r}, but the answer has {known}")
    whole = usual if tol is None or isinstance(tol, Mapping) else tol
    for entry, errors in (block.entries or {"": block.errors}).items():
        _check_bound(model, symmetry, errors, bounds.get(entry, whole), entry)
    return float(block.errors.max())


def _check_bound(model: ModelLike, symmetry: Symmetry, errors: Tensor, tol: float, entry: str) -> None:
    worst = float(errors.max())
    if not worst <= tol:
        element, sample = divmod(int(errors.argmax()), errors.shape[1])
        raise NotEquivariantError(
            f"{Model(model).name} is not equivariant under {symmetry}: relative error {f'of {entry!r} ' if entry else ''}"
            f"{worst:.3g} > {tol:.3g} at element "
            f"{element}, sample {sample} (mean {float(errors.mean()):.3g} over {errors.shape[0]} elements); "
            "er.audit shows where, er.symmetrize makes it exact"
        )


def lie_derivative(model: ModelLike, symmetry: Symmetry | None, x: Tree, *, step: float | None = None) -> Tensor:
    """Local equivariance error per generator of the Lie algebra: ``||L_a f|| / ||f||``, float64 ``[dim]``, mean over x.

    ``L_a f(x) = d/dt exp(-t a) f(exp(t a) x)`` at t = 0 (Gruver, Finzi, Goldblum, Wilson, The Lie Derivative for Measuring
    Learned Equivariance, ICLR 2023), by central differences with one Richardson step, error O(step^4), so it needs no
    gradient of the model. Zero for every generator is equivalent to equivariance under the identity component.

    A model with jumps (a forest, a threshold, labels as numbers) has no derivative: what comes out depends on the step, and
    `StepWarning` says so where two steps disagree. `equivariance_error` measures such a model.

    Args:
        model, symmetry, x: as for `equivariance_error`.
        step: length of the step in algebra coordinates; by default 2e-2 in float32, 1e-3 in float64.

    Raises:
        OrbitError: the group is discrete, or the step is not positive.
        ModelError: the model answers with integers, which have no derivative.
        What `erlangen.audit` raises for data and models.
    """
    symmetry = declared_symmetry(model, symmetry)
    if symmetry.group.dim == 0:
        raise OrbitError(f"{symmetry.group.name} is discrete and has no Lie derivative; use equivariance_error")
    if step is not None and not step > 0:
        raise OrbitError(f"step = {step}: give a positive length, or None")
    wrapped, symmetry, x, _ = bring(model, symmetry, x)
    check_data(x)
    with wrapped.measuring():
        base = probe(wrapped, symmetry, x)
        if not all(leaf.is_floating_point() for leaf in tree_leaves(base)):
            raise ModelError(f"{wrapped.name} answers with integers, which have no derivative; use equivariance_error")
        errors, jumps = generator_errors(wrapped, symmetry, x, step)
    if bool(jumps.any()):
        tell_jumps(wrapped, jumps, stacklevel=2)
    return errors


def tell_jumps(model: Model, jumps: Tensor, *, stacklevel: int) -> None:
    """Warn that Lie derivatives along the generators `jumps` depend on the step."""
    which = ", ".join(str(i) for i in jumps.nonzero()[:, 0].tolist())
    warnings.warn(
        f"the Lie derivative of {model.name} along generator {which} depends on the step: the model has jumps (as forests and "
        "thresholds have) or changes within a step, so the number means little; use equivariance_error, or another step",
        StepWarning,
        stacklevel=stacklevel + 1,
    )


DISAGREE = 0.4
"""Relative difference of two slopes from which on they disagree. A jump within both steps, or within one alone, gives at
least one half; smooth models that a step resolves give its square."""

FAR = 16
"""Where two steps see no change at all, so many steps are taken to tell a constant from a model between its jumps."""


def generator_errors(model: Model, symmetry: Symmetry, x: Tree, step: float | None = None) -> tuple[Tensor, Tensor]:
    """`lie_derivative` of data and a model that are known to fit, and along which generators it depends on the step."""
    group, dtype, device = symmetry.group, float_dtype(x), tree_leaves(x)[0].device
    h = step or (1e-3 if dtype == torch.float64 else 2e-2)

    def pulled(t: float, direction: Tensor) -> Tree:
        g = group.exp(t * direction)
        answer = model(symmetry.input.act(g, x))
        return symmetry.output.inverse_act(g.to(tree_leaves(answer)[0].device), answer)

    def slope(t: float, direction: Tensor) -> Tree:
        return tree_map(lambda a, b: (a - b) / (2 * t), pulled(t, direction), pulled(-t, direction))

    rows, jumps = [], []
    base = model(x)
    size = squares(_row(base)).sqrt()[0]
    eps = max(torch.finfo(kind).eps for kind in [dtype, *(leaf.dtype for leaf in tree_leaves(base))])
    noise = 100 * eps * float(size.norm())
    for direction in torch.eye(group.dim, dtype=dtype, device=device):
        fine, coarse = slope(h / 2, direction), slope(h, direction)
        best = tree_map(lambda a, b: (4 * a - b) / 3, fine, coarse)
        apart = float(squares(_row(fine), _row(coarse)).sum().sqrt())
        change = max(float(squares(_row(tree)).sum().sqrt()) for tree in (fine, coarse))
        if change == 0:
            jumps.append(float(squares(_row(slope(FAR * h, direction))).sum().sqrt()) * FAR * h > noise)
        else:
            jumps.append(change * h > noise and apart > DISAGREE * change)
        rows.append((squares(_row(best)).sqrt()[0] / size.clamp_min(1e-300)).mean().cpu())
    errors = torch.stack(rows)
    if not bool(torch.isfinite(errors).all()):
        raise NotFiniteError(
            f"{model.name} returned NaN or Inf near the identity of {group.name}, within a step of {h:g}; check the model "
            "on slightly moved inputs"
        )
    return errors, torch.tensor(jumps)


def _row(tree: Tree) -> Tree:
    return tree_map(lambda leaf: leaf[None], tree)


class Resampling(dict[str, float]):
    """How much an inexact action spoils by itself: ``input`` and ``model`` relative errors and ``elements`` tried."""


def resampling_floor(
    model: Model, symmetry: Symmetry, elements: Tensor, x: Tree, *, limit: int = 16
) -> Resampling | None:
    """Error of the action alone: act with g, then with its inverse, and ask how far x and f(x) have moved.

    Args:
        model: the model under measurement.
        symmetry: the declared symmetry.
        elements: ``[K, *shape]``; at most `limit` of those that resample are tried, evenly spread.
        x: a batch.

    Returns:
        Mean relative change of the input and of the model's answer, or ``None`` when every element is exact. The trip
        there and back resamples twice, so the second number bounds what one resampling adds to the equivariance error.
    """
    rough = ~symmetry.input.is_exact(elements, x)
    if not bool(rough.any()):
        return None
    chosen = elements[rough]
    chosen = chosen[torch.linspace(0, len(chosen) - 1, min(limit, len(chosen))).round().long()]
    base = model(x)
    inputs, answers = [], []
    for g in chosen:
        back = symmetry.input.inverse_act(g, symmetry.input.act(g, x))
        inputs.append(relative_error(_row(back), _row(x), _row(x)).mean())
        answers.append(relative_error(_row(model(back)), _row(base), _row(base)).mean())
    return Resampling(
        input=float(torch.stack(inputs).mean()), model=float(torch.stack(answers).mean()), elements=len(chosen)
    )


class EquivarianceTracker:
    """Track the equivariance error during training: ``er.fit(..., callbacks=[EquivarianceTracker(sym, x)])``.

    Args:
        symmetry: the symmetry to watch.
        x: a fixed batch.
        every: measure every so many epochs.
        elements, seed: as for `equivariance_error`.

    The errors are in ``history`` as (epoch, mean error), and in the metrics of each epoch as "equivariance_error".
    """

    def __init__(
        self, symmetry: Symmetry, x: Tree, *, every: int = 1, elements: int | Tensor | None = None, seed: int = 0
    ) -> None:
        self.symmetry, self.x, self.every, self.elements, self.seed = symmetry, x, every, elements, seed
        self.history: list[tuple[int, float]] = []

    def __call__(self, epoch: int, model: torch.nn.Module, metrics: dict[str, float]) -> None:
        """Called by `erlangen.fit` after every epoch."""
        if epoch % self.every:
            return
        with Model(model).measuring(quiet=True):
            error = equivariance_error(model, self.symmetry, self.x, elements=self.elements, seed=self.seed)
        metrics["equivariance_error"] = float(error)
        self.history.append((epoch, float(error)))
