"""What is checked before a measurement: the data, and that the model answers each sample alone and always alike."""

from __future__ import annotations

import torch
from torch import Tensor

from erlangen.actions import (
    Action,
    Custom,
    GroupAction,
    Sign,
    Tree,
    TreeAction,
    tree_leaves,
    tree_map,
    tree_structure,
)
from erlangen.errors import (
    ActionError,
    BatchDependenceError,
    DataError,
    ErlangenError,
    ModelError,
    NondeterministicModelError,
    NotFiniteError,
    OrbitError,
    check_finite,
    first_index,
    is_finite,
    is_whole,
)
from erlangen.measure.evaluate import moved_labels, relative_error
from erlangen.measure.models import Model
from erlangen.symmetry import Symmetry


def float_dtype(x: Tree) -> torch.dtype:
    """Dtype of the first floating leaf, in which elements are drawn; the default dtype if there is none."""
    return next((leaf.dtype for leaf in tree_leaves(x) if leaf.is_floating_point()), torch.get_default_dtype())


def take(tree: Tree, window: slice) -> Tree:
    """A slice of the batch axis of every leaf."""
    return tree_map(lambda leaf: leaf[window], tree)


def batch_length(x: Tree, name: str = "x") -> int:
    """Number of samples of a tree of tensors; `DataError` for other things, and for uneven or empty ones."""
    leaves = tree_leaves(x)
    if not leaves or not all(isinstance(leaf, Tensor) and leaf.ndim for leaf in leaves):
        raise DataError(f"{name} is {_described(x)}; give a tensor [B, ...] or an array, or a dict or tuple of these")
    sizes = {leaf.shape[0] for leaf in leaves}
    if len(sizes) > 1:
        raise DataError(f"{name} has leaves of different length: {tree_structure(x)}; the first axis is the batch")
    samples = sizes.pop()
    if samples == 0:
        raise DataError(f"{name} is empty ({tree_structure(x)}); give at least one sample")
    return samples


def _described(x: Tree) -> str:
    """The structure of what is no tree of tensors, cut where it is long."""
    text = tree_structure(x)
    return text if len(text) <= 80 else text[:77] + "..."


def check_data(x: Tree, y: Tree | None = None) -> int:
    """Number of samples; raises for empty, uneven or non-finite data."""
    samples = batch_length(x)
    for leaf in tree_leaves(x):
        check_finite(leaf, "x")
    if y is not None:
        for leaf in tree_leaves(y):
            if not isinstance(leaf, Tensor):
                raise DataError(
                    f"y is {_described(y)}; give a tensor [B, ...] or an array, or a dict or tuple of these"
                )
            if leaf.ndim == 0 or leaf.shape[0] != samples:
                raise DataError(f"y has {tree_structure(leaf)} but x has {samples} samples; give one label per sample")
            check_finite(leaf, "y")
    return samples


def check_chunk(chunk: int | None) -> None:
    """Raise `OrbitError` unless the chunk is a positive integer or ``None``."""
    if chunk is not None and not is_whole(chunk, 1):
        raise OrbitError(f"chunk = {chunk!r}: give a positive number of elements per model call, or None")


def probe(model: Model, symmetry: Symmetry, x: Tree) -> Tree:
    """Answer to the first samples; raises for a random model, or one that mixes the batch."""
    head = take(x, slice(0, 8))
    check_action(symmetry.input, head)
    given = tree_map(torch.clone, head)
    base = model(given)
    if not all(torch.equal(a, b) for a, b in zip(tree_leaves(given), tree_leaves(head), strict=True)):
        raise ModelError(f"{model.name} changes its input in place; let it work on x.clone()")
    check_action(symmetry.output, base, "the model's answer, as x of the output action: ")

    def difference(a: Tree, b: Tree) -> float:
        if all(torch.equal(one, other) for one, other in zip(tree_leaves(a), tree_leaves(b), strict=True)):
            return 0.0
        row = [tree_map(lambda leaf: leaf[None], tree) for tree in (a, b)]
        return float(relative_error(row[0], row[1], row[1]).max())

    again = difference(model(head), base)
    if again > 1e-6:
        raise NondeterministicModelError(
            f"{model.name} gave two answers to one input (relative difference {again:.2g}); switch dropout and sampling off, "
            "or fix their seed inside the model"
        )
    alone = difference(model(take(head, slice(0, 1))), take(base, slice(0, 1)))
    if alone > 1e-3:
        raise BatchDependenceError(
            f"{model.name} answers sample 0 differently alone and in a batch (relative difference {alone:.2g}); replace "
            "statistics over the batch (BatchNorm in train mode, normalising by the batch) by fixed ones"
        )
    for leaf in tree_leaves(base):
        if not is_finite(leaf):
            index = first_index(~torch.isfinite(leaf))
            raise NotFiniteError(
                f"{model.name} returned {leaf[index].item()} at index {index} of its answer to x; check the model on sample "
                f"{index[0]}"
            )
    return base


def check_labels(output: GroupAction, y: Tree, base: Tree) -> None:
    """Raise unless the output action moves labels as they should, judged by the answer `base` to the first samples.

    A function of the user, and a sign, move what has the shape of an answer. Class labels beside class scores have not:
    such an action would move other axes than it means.
    """
    head = take(y, slice(0, len(tree_leaves(base)[0])))
    if getattr(output.action, "labels", None) is None:
        _check_same_kind(output.action, head, base, "y")
        check_action(output, head, "y, as x of the output action: ")
    else:
        moved_labels(output, output.group.identity(device=tree_leaves(y)[0].device)[None, None], _row(head))


def _check_same_kind(action: Action, y: Tree, base: Tree, name: str) -> None:
    if isinstance(action, TreeAction):
        same = (
            isinstance(y, dict) == isinstance(base, dict) and isinstance(y, (dict, list, tuple)) and len(y) == len(base)
        )
        if same and (not isinstance(y, dict) or set(y) == set(base)):
            for key in action.keys:
                _check_same_kind(action.tree[key], y[key], base[key], f"{name}[{key!r}]")
        return  # what has another structure is refused by the action itself
    if not any(isinstance(part, (Custom, Sign)) for part in parts_of(action)):
        return
    floating = all(leaf.is_floating_point() for leaf in [*tree_leaves(y), *tree_leaves(base)])
    if tree_structure(y) != tree_structure(base) and not (floating and isinstance(action, Sign)):
        raise ActionError(
            f"the output action {action.name!r} moves answers {tree_structure(base)}, but {name} is {tree_structure(y)}; say "
            "how labels move: er.actions.Custom(fn, labels=lambda g, y: y) if they stay as they are"
        )


def parts_of(action: Action) -> list[Action]:
    """An action and those that it is made of."""
    inner = [value for value in vars(action).values() if isinstance(value, Action)]
    lists = [value for value in vars(action).values() if isinstance(value, (list, tuple))]
    inner += [entry for value in lists for entry in value if isinstance(entry, Action)]
    return [action, *(part for entry in inner for part in parts_of(entry))]


def _row(tree: Tree) -> Tree:
    return tree_map(lambda leaf: leaf[None], tree)


def check_action(action: GroupAction, x: Tree, label: str = "") -> None:
    """Raise unless the action takes x, with one element per sample and with an orbit ``[K, 1]`` against ``[1, B]``.

    The message of an error from the action gets `label` in front.
    """
    like = tree_leaves(x)[0]
    identity = action.group.identity(device=like.device)
    identity = identity.to(float_dtype(x)) if identity.is_floating_point() else identity
    for g, data in ((identity[None], x), (identity[None, None], tree_map(lambda leaf: leaf[None], x))):
        try:
            moved = action.act(g, data)
        except ErlangenError as error:
            raise type(error)(f"{label}{error}") from error
        if tree_structure(moved) != tree_structure(data):
            raise ActionError(
                f"{label}the action {action.name!r} turned {tree_structure(data)} into {tree_structure(moved)} for elements "
                f"of shape {list(g.shape)}; the moved data must keep structure and shape, with the batch axes of g against "
                "the first axes of the data"
            )
