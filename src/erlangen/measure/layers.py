"""Where in a network a symmetry is lost: the equivariance error after every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from erlangen.actions import Factors, GroupAction, Invariant, Tree, TreeAction, parse_action, tree_leaves, tree_map
from erlangen.errors import ErlangenError, ModelError
from erlangen.groups import DirectProduct
from erlangen.measure.checks import check_data, float_dtype
from erlangen.measure.error import declared_symmetry
from erlangen.measure.evaluate import relative_error
from erlangen.measure.models import Model, ModelLike
from erlangen.measure.orbit import orbit
from erlangen.symmetry import Symmetry

ELEMENTS = 16
"""Elements tried per layer, evenly spread over the orbit."""

FLAT = "input, flattened"
"""Features that move like the input once they are in the shape that they had before they were flattened."""

KEPT = 1e-3
"""Features whose error is at most this move as they should."""

CAUTION = (
    "A layer is compared with the actions that can be written down for the shape of its features: those of the input and of "
    "the output, or of their parts, and not moving at all. Features may move in another way, for example as channels that "
    "are permuted among themselves; then all of its errors are large though nothing is lost, and a later layer fits again. "
    "So the layer named here is the first behind all that fit, or, if one of those in between only hides the symmetry, "
    "somewhat too early. Layers are in the order in which they run; where branches run side by side, look at each."
)
"""What a loss at a layer means, and what it does not."""


@dataclass(frozen=True)
class LayerError:
    """Mean relative error of the features behind one layer, for every action that their shape can carry.

    A layer keeps the symmetry when one of the errors is at rounding level: "input" if its features move like the input,
    "output" if like the output, "invariant" if they do not move; "input, S5 alone" and "input 'pos'" if they move like the
    input under one factor of a product of groups, or like one entry of it. No small error is no proof of a loss: see
    `CAUTION`. "input, flattened" is for features that were flattened on the way.

    Features that are no floating tensor of the batch are left out.
    """

    name: str
    kind: str
    errors: dict[str, float]

    @property
    def best(self) -> tuple[str, float]:
        """The action that fits best, and its error."""
        return min(self.errors.items(), key=lambda item: item[1])

    @property
    def kept(self) -> bool:
        """Whether the features move by one of the actions tried, to a thousandth."""
        return self.best[1] <= KEPT

    @property
    def words(self) -> str:
        """How the features move, as far as can be told."""
        name = self.best[0]
        return (
            "by none of the actions tried"
            if not self.kept
            else "not at all"
            if name == "invariant"
            else f"like the {name}"
        )


def lost_at(layers: Sequence[LayerError]) -> str | None:
    """Name of the first layer behind all that keep the symmetry; None where the last layer keeps it, or there is none.

    Layers before it that fit no action that was tried move by one that was not: what comes later still knows how.

    >>> rows = [LayerError("a", "Linear", {"input": 0.5}), LayerError("b", "ReLU", {"invariant": 0.0})]
    >>> lost_at(rows), lost_at([*rows, LayerError("c", "Linear", {"invariant": 0.2})])
    (None, 'c')
    """
    behind = 1 + max((i for i, layer in enumerate(layers) if layer.kept), default=-1)
    return layers[behind].name if behind < len(layers) else None


def layer_errors(
    model: ModelLike | Model,
    symmetry: Symmetry | None,
    x: Tree,
    elements: int | Tensor | None = None,
    *,
    only: list[str] | None = None,
    seed: int = 0,
) -> list[LayerError]:
    """Equivariance error after each layer of a torch module, in the order of execution.

    >>> import erlangen as er
    >>> quarter = er.Symmetry("Cyclic(4)", input="image", output="invariant")
    >>> mean = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> [layer.words for layer in layer_errors(mean, quarter, torch.rand(2, 1, 6, 6))]
    ['like the input', 'not at all', 'not at all']

    A layer far from all of them may still be in order: see `CAUTION`. `lost_at` finds the layer to look at first.

    Args:
        model: a torch module.
        symmetry: the declared symmetry, or ``None`` for the model's own.
        x: a batch.
        elements: as for `erlangen.audit`; 16 of them, evenly spread, are used.
        only: names of the submodules to measure; by default all that have no children.
        seed: of sampled elements.

    Raises:
        ModelError: the model is no torch module, or has no submodule of a name in `only`.
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
    x, _ = wrapped.read(x)
    check_data(x, None)
    candidates = {
        "invariant": parse_action("invariant").on(symmetry.group),
        "input": symmetry.input,
        "output": symmetry.output,
        **_parts(symmetry.input),
    }
    device = tree_leaves(x)[0].device
    elements = orbit(symmetry.group, elements, seed=seed, dtype=float_dtype(x), device=device).elements
    chosen = elements[torch.linspace(0, len(elements) - 1, min(ELEMENTS, len(elements))).round().long()]
    with wrapped.measuring():
        base = _features(wrapped, named, x)
        forms = _forms(symmetry.input, base, x, chosen[:1])
        totals: dict[str, dict[str, float]] = {
            name: {label: 0.0 for label, action in candidates.items() if _carries(action, feature, chosen[:1])}
            | ({FLAT: 0.0} if name in forms else {})
            for name, feature in base.items()
        }
        for g in chosen[:, None]:
            moved = _features(wrapped, named, symmetry.input.act(g[0], x))
            for name, errors in totals.items():
                for label in errors:
                    form = forms[name] if label == FLAT else base[name].shape[1:]
                    action = symmetry.input if label == FLAT else candidates[label]
                    row, found = (leaf.reshape(1, len(leaf), *form) for leaf in (base[name], moved[name]))
                    mask = action.mask(g[:, None], row)
                    error = relative_error(found, action.act(g[:, None], row), row, mask).mean()
                    errors[label] += float(error) / len(chosen)
    return [LayerError(name, type(named[name]).__name__, errors) for name, errors in totals.items() if errors]


def _forms(action: GroupAction, features: dict[str, Tensor], x: Tree, g: Tensor) -> dict[str, torch.Size]:
    """The shape that flat features had before, in the input or the last features with as many entries that it can move."""
    shapes = [x.shape[1:]] if isinstance(x, Tensor) else []
    forms: dict[str, torch.Size] = {}
    for name, feature in features.items():
        if _carries(action, feature, g):
            shapes.append(feature.shape[1:])
        elif feature.ndim == 2:
            same = [shape for shape in shapes if shape.numel() == feature.shape[1]]
            forms |= {name: same[-1]} if same else {}
    return forms


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


def _parts(action: GroupAction) -> dict[str, GroupAction]:
    """What a part of the input tells about features: one factor of a product alone, or one entry of a tree."""
    group, whole = action.group, action.action
    if isinstance(whole, TreeAction):
        return {f"input {key!r}": GroupAction(group, whole.tree[key]) for key in whole.keys}
    if isinstance(whole, Factors) and isinstance(group, DirectProduct):
        still = [Invariant()] * len(whole.actions)
        return {
            f"input, {factor.name} alone": GroupAction(group, Factors((*still[:i], part, *still[i + 1 :])))
            for i, (factor, part) in enumerate(zip(group.factors, whole.actions, strict=True))
        }
    return {}


def _carries(action: GroupAction, feature: Tensor, g: Tensor) -> bool:
    """Whether features of this shape can be moved by the action."""
    try:
        tree_map(lambda leaf: leaf.shape, action.act(g[:, None], feature[None]))
    except ErlangenError:
        return False
    return True
