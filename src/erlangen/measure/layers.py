"""Where in a network a symmetry is lost: the equivariance error after every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from erlangen.actions import GroupAction, Tree, parse_action, tree_leaves, tree_map
from erlangen.errors import ErlangenError, ModelError
from erlangen.measure.error import declared_symmetry
from erlangen.measure.evaluate import relative_error
from erlangen.measure.models import Model, ModelLike
from erlangen.symmetry import Symmetry

ELEMENTS = 16
"""Elements tried per layer, evenly spread over the orbit."""


@dataclass(frozen=True)
class LayerError:
    """Mean relative error of the features behind one layer, for every action that their shape can carry.

    A layer keeps the symmetry when one of the errors is at rounding level: "input" if its features move like the input,
    "output" if like the output, "invariant" if they do not move. ``None`` features (no tensor) are left out.
    """

    name: str
    kind: str
    errors: dict[str, float]

    @property
    def best(self) -> tuple[str, float]:
        """The action that fits best, and its error."""
        return min(self.errors.items(), key=lambda item: item[1])


def layer_errors(
    model: ModelLike | Model, symmetry: Symmetry | None, x: Tree, elements: Tensor, *, only: list[str] | None = None
) -> list[LayerError]:
    """Equivariance error after each layer of a torch module, in the order of execution.

    Args:
        model: a torch module.
        symmetry: the declared symmetry, or ``None`` for the model's own.
        x: a batch.
        elements: ``[K, *shape]``; 16 of them, evenly spread, are used.
        only: names of the submodules to measure; by default all that have no children.
    """
    wrapped = model if isinstance(model, Model) else Model(model)
    symmetry, model = declared_symmetry(wrapped.target, symmetry), wrapped.module
    if model is None:
        raise ModelError(f"layers: {wrapped.name} is no torch module, so its layers cannot be seen; pass layers=False")
    named = {name: m for name, m in model.named_modules() if name and not any(True for _ in m.children())}
    if only is not None:
        every = dict(model.named_modules())
        unknown = [name for name in only if name not in every]
        if unknown:
            raise ModelError(
                f"layers: {unknown[0]!r} is no submodule; the model has {', '.join(n for n in every if n)}"
            )
        named = {name: every[name] for name in only}
    candidates = {
        "invariant": parse_action("invariant").on(symmetry.group),
        "input": symmetry.input,
        "output": symmetry.output,
    }
    chosen = elements[torch.linspace(0, len(elements) - 1, min(ELEMENTS, len(elements))).round().long()]
    with wrapped.measuring():
        base = _features(wrapped, named, x)
        totals: dict[str, dict[str, float]] = {
            name: {label: 0.0 for label, action in candidates.items() if _carries(action, feature, chosen[:1])}
            for name, feature in base.items()
        }
        for g in chosen[:, None]:
            moved = _features(wrapped, named, symmetry.input.act(g[0], x))
            for name, errors in totals.items():
                row = base[name][None]
                for label in errors:
                    expected = candidates[label].act(g[:, None], row)
                    mask = candidates[label].mask(g[:, None], row)
                    error = relative_error(moved[name][None], expected, row, mask).mean()
                    errors[label] += float(error) / len(chosen)
    return [LayerError(name, type(named[name]).__name__, errors) for name, errors in totals.items() if errors]


def _features(model: Model, named: dict[str, nn.Module], x: Tree) -> dict[str, Tensor]:
    """Floating batch outputs of the named modules, in the order in which they ran."""
    found: dict[str, Tensor] = {}
    samples = tree_leaves(x)[0].shape[0]

    def hook(name: str) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensor = tree_leaves(output)[0]
            if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.shape[:1] == (samples,):
                found[name] = tensor.detach()

        return keep

    handles = [module.register_forward_hook(hook(name)) for name, module in named.items()]
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _carries(action: GroupAction, feature: Tensor, g: Tensor) -> bool:
    """Whether features of this shape can be moved by the action."""
    try:
        tree_map(lambda leaf: leaf.shape, action.act(g[:, None], feature[None]))
    except ErlangenError:
        return False
    return True
