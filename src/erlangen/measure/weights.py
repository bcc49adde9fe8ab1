"""A network as a function of its weights, for audits of what may be done to these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from erlangen.errors import ShapeError


def stack_weights(*models: nn.Module) -> dict[str, Tensor]:
    """Parameters and floating buffers of networks of one form, by name, ``[B, ...]`` for B networks; detached.

    >>> stack_weights(nn.Linear(3, 2), nn.Linear(3, 2))["weight"].shape
    torch.Size([2, 2, 3])

    Raises:
        ShapeError: no network, or networks of different form.
    """
    states = [{k: t.detach() for k, t in m.state_dict().items() if t.is_floating_point()} for m in models]
    shapes = [{name: t.shape for name, t in state.items()} for state in states]
    if not shapes or any(shape != shapes[0] for shape in shapes):
        raise ShapeError("the networks have different tensors, or there is none; give networks of one form")
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


def function_of_weights(model: nn.Module, x: Tensor | tuple[Any, ...]) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """The answers of a network to fixed inputs, as a function of its weights: "is it the same function after this change?".

    >>> import erlangen as er
    >>> net, x = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(5, 3)
    >>> streams = er.actions.weight_streams(net, x)
    >>> sym = er.Symmetry(streams.group, input=er.actions.Weights(streams), output="invariant")
    >>> report = er.audit(er.measure.function_of_weights(net, x), sym, er.measure.stack_weights(net), elements=20)
    >>> bool(report.worst_error < 1e-4)
    True

    Args:
        model: a module with one tensor for an answer; it is called in eval mode, so normalisations use the running statistics
            among the weights. Its own weights are not touched.
        x: an input, or a tuple of inputs.

    Returns:
        A function of tensors by name ``[B, ...]`` (`stack_weights`) with the answers ``[B, *answer]``.
    """
    arguments = x if isinstance(x, tuple) else (x,)

    def one(weights: Mapping[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, dict(weights), arguments, tie_weights=False)

    def answers(weights: Mapping[str, Tensor]) -> Tensor:
        was_training, was_fast = model.training, torch.backends.mha.get_fastpath_enabled()
        model.eval()
        torch.backends.mha.set_fastpath_enabled(False)  # a kernel that vmap cannot batch
        try:
            return torch.func.vmap(one)(dict(weights))
        finally:
            model.train(was_training)
            torch.backends.mha.set_fastpath_enabled(was_fast)

    return answers
