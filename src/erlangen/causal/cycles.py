"""Smooth functions that are zero on acyclic graphs, and their gradients."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from erlangen.causal.graphs import check_graph
from erlangen.errors import ErlangenError, UnknownNameError

Form = Literal["logdet", "exp", "poly"]


def acyclicity(A: Tensor, form: Form = "logdet", *, s: float = 1.0) -> Tensor:
    """How far weights ``A [d, d]`` are from an acyclic graph: zero on DAGs, positive on cyclic graphs, differentiable.

    >>> A = torch.tensor([[0.0, 0.5], [0.5, 0.0]])
    >>> round(acyclicity(A).item(), 4)  # -log(1 - 0.25)
    0.2877

    "logdet": ``-log det(s I - A) + d log s`` (Bello, Aragam and Ravikumar 2022), for A of spectral radius below s; its gradient
    is `walk_sums`. "exp": ``tr exp(A) - d`` (Zheng et al. 2018). "poly": ``tr (I + A / d)^d - d`` (Yu et al. 2019). Weights must
    not be negative: give ``|W|``, or ``W * W`` as these papers do; the gradient of the latter by W vanishes where W does.

    Raises:
        ErlangenError: negative entries, or a spectral radius of s or more.
    """
    check_graph(A, "A")
    if form not in get_args(Form):
        raise UnknownNameError(f"form = {form!r}; there are {', '.join(get_args(Form))}")
    if bool((A < 0).any()):
        i, j = (A < 0).nonzero()[0].tolist()
        raise ErlangenError(f"A[{i}, {j}] = {float(A[i, j]):.4g} is negative; give W.abs() or W * W")
    d = len(A)
    eye = torch.eye(d, dtype=A.dtype, device=A.device)
    if form == "exp":
        return torch.linalg.matrix_exp(A).diagonal().sum() - d
    if form == "poly":
        return torch.linalg.matrix_power(eye + A / d, d).diagonal().sum() - d
    _check_radius(A, s)
    return d * math.log(s) - torch.linalg.slogdet(s * eye - A).logabsdet


def walk_sums(A: Tensor, *, s: float = 1.0) -> Tensor:
    """Gradient ``(s I - A)^-T [d, d]`` of the log-determinant form by A.

    On an acyclic graph, with s = 1, entry [i, j] is the sum over directed walks from j to i of the products of their weights (1
    on the diagonal): how much of a cycle the edge i -> j would close.
    """
    check_graph(A, "A")
    _check_radius(A, s)
    return torch.linalg.inv(s * torch.eye(len(A), dtype=A.dtype, device=A.device) - A).mT


def _check_radius(A: Tensor, s: float) -> None:
    radius = float(torch.linalg.eigvals(A.detach()).abs().max())
    if radius >= s:
        raise ErlangenError(
            f"A has the spectral radius {radius:.4g}; the log-determinant needs less than s = {s}; pass a larger s, or form='exp'"
        )
