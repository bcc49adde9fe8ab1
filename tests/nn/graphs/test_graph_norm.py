"""GraphNorm against its formula written out, and independence of the batch."""

from __future__ import annotations

import pytest
import torch

from erlangen.errors import ShapeError
from erlangen.nn import GraphNorm


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_formula_graph_by_graph(dtype: torch.dtype) -> None:
    norm = GraphNorm(3).to(dtype)
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    x, batch = 4 + 2 * torch.randn(9, 3, dtype=dtype), torch.tensor([0, 2, 0, 2, 2, 0, 0, 3, 3])
    out = norm(x, batch, graphs=5)
    for k in (0, 2, 3):
        rows = x[batch == k]
        moved = rows - norm.mean_share * rows.mean(0)
        want = norm.weight * moved / (moved.square().mean(0) + 1e-5).sqrt() + norm.bias
        torch.testing.assert_close(out[batch == k], want)
        torch.testing.assert_close(norm(rows, torch.zeros(len(rows)).long()), want)
    assert norm(x[:0], batch[:0]).shape == (0, 3)


def test_gradients() -> None:
    norm, batch = GraphNorm(2).double(), torch.tensor([0, 0, 1, 1, 1])
    assert torch.autograd.gradcheck(
        lambda x: norm(x, batch), torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    )


def test_wrong_width_is_named() -> None:
    with pytest.raises(ShapeError, match=r"\[N, 2\]"):
        GraphNorm(2)(torch.zeros(3, 4), torch.zeros(3).long())
