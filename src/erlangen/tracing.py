"""Who else follows the calls of this thread: compilers, function transforms, recorders. Torch has no public names for all."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = ["carries_derivative", "is_recorded", "is_traced"]


def carries_derivative(x: Tensor) -> bool:
    """Whether a derivative can be taken through x, backward or forward."""
    return x.requires_grad or forward_ad.unpack_dual(x).tangent is not None


def is_traced() -> bool:
    """Whether a compiler or a function transform (`torch.func`) follows: values cannot be read, plain formulas serve best."""
    return torch.compiler.is_compiling() or _is_transformed()


def is_recorded() -> bool:
    """Whether a transform, the tracer of TorchScript or a dispatch mode follows; they see this thread alone."""
    tracing = torch._C._get_tracing_state() is not None  # pyright: ignore[reportPrivateUsage]
    return tracing or _is_transformed() or torch._C._len_torch_dispatch_stack() > 0  # pyright: ignore[reportPrivateUsage]


def _is_transformed() -> bool:
    return torch._C._are_functorch_transforms_active()  # pyright: ignore[reportPrivateUsage]
