"""Padded batches of graphs and back."""

import pytest
import torch

from erlangen.errors import DtypeError, ShapeError
from erlangen.nn import dense_batch, sparse_batch

BATCH = torch.tensor([0, 0, 0, 2, 2, 3])


def test_there_and_back():
    x = torch.randn(6, 4, 2)
    dense, mask = dense_batch(x, BATCH, graphs=5)
    assert dense.shape == (5, 3, 4, 2)
    assert mask.sum(1).tolist() == [3, 0, 2, 1, 0]
    assert torch.equal(dense[0], x[:3])
    assert torch.equal(dense[2, :2], x[3:5])
    assert bool((dense[~mask] == 0).all())
    rows, batch = sparse_batch(dense, mask)
    assert torch.equal(rows, x)
    assert torch.equal(batch, BATCH)


def test_gradients_and_empty():
    x = torch.randn(6, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: dense_batch(v, BATCH)[0], x)
    dense, mask = dense_batch(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), graphs=2)
    assert dense.shape == (2, 0, 3)
    assert sparse_batch(dense, mask)[0].shape == (0, 3)


def test_bad_input():
    with pytest.raises(ShapeError, match="ascending"):
        dense_batch(torch.zeros(2, 1), torch.tensor([1, 0]))
    with pytest.raises(DtypeError, match="int64"):
        dense_batch(torch.zeros(2, 1), torch.zeros(2))
    with pytest.raises(ShapeError, match="names graph 3"):
        dense_batch(torch.zeros(6, 1), BATCH, graphs=2)
    with pytest.raises(ShapeError, match="must be bool"):
        sparse_batch(torch.zeros(2, 3, 1), torch.ones(2, 3))
