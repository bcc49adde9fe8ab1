"""One contract for every layer: `check_layer`, for our tests and for yours."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from erlangen.actions import Tree, tree_leaves, tree_map, tree_structure
from erlangen.errors import ErlangenError
from erlangen.measure import assert_equivariant
from erlangen.measure.error import declared_symmetry
from erlangen.symmetry import Symmetry

__all__ = ["LayerCheckError", "check_layer"]


class LayerCheckError(ErlangenError, AssertionError):
    """A layer breaks the contract; the message lists every check that failed."""


def check_layer(
    layer: nn.Module,
    x: Tree,
    symmetry: Symmetry | None = None,
    *,
    tol: float | None = None,
    skip: Collection[str] = (),
) -> list[str]:
    """Run the contract of a layer on a batch; raise `LayerCheckError` listing all that failed.

    ==============  ================================================================================================
    check           what must hold
    ==============  ================================================================================================
    shapes          the batch is the leading axis of the output, and a sample alone gives its row of the batch
    dtype           float64 input and layer give float64 output, equal to the float32 one up to 1e-3
    device          the layer runs on every device of this machine with the same result
    gradient        gradients of all inputs and parameters in use exist and are finite
    double_backward the gradient can be differentiated again, with finite values
    empty_batch     a batch of size 0 gives an output of size 0
    vmap            ``torch.func.vmap`` over samples equals the batch
    compile         ``torch.compile(fullgraph=True, backend="eager")`` gives the same output
    state_dict      saving, and loading into a copy with other values, restores the output
    symmetry        the declared symmetry to `tol` (1e-5 in float32, 1e-12 in float64)
    ==============  ================================================================================================

    Args:
        layer: the module, measured in eval mode and left as it was.
        x: a batch ``[B, ...]`` or a tree of batches, B at least 2.
        symmetry: the declared symmetry; by default ``layer.symmetry``.
        tol: tolerance of the symmetry.
        skip: names of checks that do not apply; say why where you skip.

    Returns:
        Names of the checks that ran.
    """
    symmetry = declared_symmetry(layer, symmetry)
    checks: dict[str, Callable[[nn.Module, Tree], None]] = {
        "shapes": _shapes,
        "dtype": _dtype,
        "device": _device,
        "gradient": _gradient,
        "double_backward": _double_backward,
        "empty_batch": _empty_batch,
        "vmap": _vmap,
        "compile": _compile,
        "state_dict": _state_dict,
        "symmetry": lambda module, batch: _symmetry(module, batch, symmetry, tol),
    }
    unknown = set(skip) - set(checks)
    if unknown:
        raise ErlangenError(f"skip = {sorted(unknown)}: known checks are {', '.join(checks)}")
    failures, ran = [], []
    modes = [(module, module.training) for module in layer.modules()]
    layer.eval()
    try:
        for name, check in checks.items():
            if name in skip:
                continue
            ran.append(name)
            try:
                check(layer, x)
            except Exception as error:  # noqa: BLE001 - every failure is collected and reported
                failures.append(f"{name}: {type(error).__name__}: {str(error).strip()}")
    finally:
        for module, training in modes:
            module.training = training
    if failures:
        raise LayerCheckError(f"{type(layer).__name__} breaks the layer contract\n  " + "\n  ".join(failures))
    return ran


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _close(a: Tree, b: Tree, what: str, tol: float = 1e-4) -> None:
    for left, right in zip(tree_leaves(a), tree_leaves(b), strict=True):
        _require(left.shape == right.shape, f"{what}: shapes {tuple(left.shape)} and {tuple(right.shape)}")
        left, right = (leaf.detach().double().cpu() for leaf in (left, right))
        scale = float(right.abs().max()) if right.numel() else 0.0
        gap = float((left - right).abs().max()) if right.numel() else 0.0
        _require(gap <= tol * max(scale, 1e-6), f"{what}: differs by {gap:.3g} (largest entry {scale:.3g})")


def _size(x: Tree) -> int:
    return tree_leaves(x)[0].shape[0]


def _floats(tree: Tree) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if leaf.is_floating_point()]


def _shapes(layer: nn.Module, x: Tree) -> None:
    _require(_size(x) >= 2, f"x holds {_size(x)} samples; pass at least 2")
    y = layer(x)
    _require(
        all(leaf.shape[:1] == (_size(x),) for leaf in tree_leaves(y)),
        f"the output is {tree_structure(y)} for {_size(x)} samples",
    )
    alone = layer(tree_map(lambda leaf: leaf[:1], x))
    _close(alone, tree_map(lambda leaf: leaf[:1], y), "a sample alone and in the batch")


def _dtype(layer: nn.Module, x: Tree) -> None:
    def cast(tree: Tree, dtype: torch.dtype) -> Tree:
        return tree_map(lambda leaf: leaf.to(dtype) if leaf.is_floating_point() else leaf, tree)

    single, double = (copy.deepcopy(layer).to(dtype)(cast(x, dtype)) for dtype in (torch.float32, torch.float64))
    _require(all(leaf.dtype == torch.float32 for leaf in _floats(single)), "float32 in does not give float32 out")
    _require(all(leaf.dtype == torch.float64 for leaf in _floats(double)), "float64 in does not give float64 out")
    _close(single, double, "float32 and float64", tol=1e-3)


def _device(layer: nn.Module, x: Tree) -> None:
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    outputs = [copy.deepcopy(layer).to(device)(tree_map(lambda leaf, d=device: leaf.to(d), x)) for device in devices]
    for output in outputs[1:]:
        _close(output, outputs[0], "devices", tol=1e-3)


def _differentiable(x: Tree) -> Tree:
    return tree_map(lambda leaf: leaf.detach().clone().requires_grad_() if leaf.is_floating_point() else leaf, x)


def _scalar(y: Tree) -> Tensor:
    return torch.stack([leaf.square().sum() for leaf in _floats(y)]).sum()


def _gradient(layer: nn.Module, x: Tree) -> None:
    x = _differentiable(x)
    wanted = [*_floats(x), *(p for p in layer.parameters() if p.requires_grad)]
    grads = torch.autograd.grad(_scalar(layer(x)), wanted, allow_unused=True)
    _require(any(grad is not None for grad in grads), "nothing receives a gradient")
    _require(all(bool(torch.isfinite(grad).all()) for grad in grads if grad is not None), "a gradient is not finite")


def _double_backward(layer: nn.Module, x: Tree) -> None:
    x = _differentiable(x)
    inputs = _floats(x)
    first = torch.autograd.grad(_scalar(layer(x)), inputs, create_graph=True, allow_unused=True)
    total = torch.stack([grad.square().sum() for grad in first if grad is not None]).sum()
    second = torch.autograd.grad(total, inputs, allow_unused=True)
    _require(
        all(bool(torch.isfinite(grad).all()) for grad in second if grad is not None),
        "a second derivative is not finite",
    )


def _empty_batch(layer: nn.Module, x: Tree) -> None:
    full, empty = layer(x), layer(tree_map(lambda leaf: leaf[:0], x))
    shapes = [tuple(leaf.shape) for leaf in tree_leaves(empty)]
    _require(
        shapes == [(0, *leaf.shape[1:]) for leaf in tree_leaves(full)], f"an empty batch gives {tree_structure(empty)}"
    )


def _vmap(layer: nn.Module, x: Tree) -> None:
    def one(sample: Tree) -> Tree:
        return tree_map(lambda leaf: leaf[0], layer(tree_map(lambda leaf: leaf[None], sample)))

    _close(torch.func.vmap(one)(x), layer(x), "vmap and the batch")


def _compile(layer: nn.Module, x: Tree) -> None:
    _close(torch.compile(layer, fullgraph=True, backend="eager")(x), layer(x), "compiled and eager")


def _state_dict(layer: nn.Module, x: Tree) -> None:
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    other = copy.deepcopy(layer)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    _close(other(x), layer(x), "reloaded and original", tol=0.0)


def _symmetry(layer: nn.Module, x: Tree, symmetry: Symmetry, tol: float | None) -> None:
    assert_equivariant(layer, x, symmetry, tol=tol)
