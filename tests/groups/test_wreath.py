"""Wreath products against Kronecker products, and what is no element of one."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from erlangen.errors import GroupElementError
from erlangen.groups import CSO, SO, GLPlus, O, Wreath

G = Wreath(3, O(2), GLPlus(2))


def draw(n: int) -> torch.Tensor:
    return G.sample(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_matrices_are_sums_of_kronecker_products() -> None:
    """Block i goes to its place, multiplied by its own matrix: the sum of E[place, i] x M_i, one for each group."""
    for g in draw(20):
        places, blocks = G.places(g).numpy(), G.blocks(g).numpy().reshape(3, 2, 2, 2)
        due = [
            sum(np.kron(np.outer(np.eye(3)[places[i]], np.eye(3)[i]), blocks[i, which]) for i in range(3))
            for which in (0, 1)
        ]
        for which in (0, 1):
            np.testing.assert_array_equal(G.matrices(g, which).numpy(), due[which])
        whole = np.block([[due[0], np.zeros((6, 6))], [np.zeros((6, 6)), due[1]]])
        np.testing.assert_array_equal(G.linear(g).numpy(), whole)


def test_products_and_inverses_are_those_of_the_matrices() -> None:
    g, h = draw(40).chunk(2)
    for which in (0, 1):
        product = G.matrices(G.compose(g, h), which).numpy()
        np.testing.assert_allclose(product, G.matrices(g, which).numpy() @ G.matrices(h, which).numpy(), atol=1e-12)
        inverse = np.linalg.inv(G.matrices(g, which).numpy())
        np.testing.assert_allclose(G.matrices(G.inverse(g), which).numpy(), inverse, atol=1e-9)


def test_sizes() -> None:
    """Three blocks, each with a matrix of both groups: 1 + 4 coordinates and 4 + 4 entries a block."""
    assert (G.dim, G.shape, G.units, G.space_dim, G.is_compact) == (15, (27,), 6, 12, False)
    assert Wreath(3, SO(2)).is_compact
    assert Wreath(3, SO(2)) != Wreath(3, O(2))
    assert Wreath(2, O(2), CSO(2)) != Wreath(2, CSO(2), O(2))


def test_all_orders_of_blocks_are_as_likely() -> None:
    seen = [tuple(places) for places in G.places(draw(6000)).tolist()]
    counts = [seen.count(order) for order in itertools.permutations(range(3))]
    assert chisquare(counts).pvalue > 1e-3


def test_what_is_no_element() -> None:
    g = draw(5)
    g[1, :3] = torch.tensor([0.0, 0.0, 2.0])  # two blocks at one place
    g[2, :3] = torch.tensor([0.5, 1.0, 2.0])
    g[3, 3:7] *= 2  # a block that is not orthogonal
    assert G.contains(g).tolist() == [True, False, False, False, True]


def test_a_block_that_moves_has_no_logarithm() -> None:
    g = G.identity(dtype=torch.float64)
    assert torch.equal(G.log(g), torch.zeros(15, dtype=torch.float64))
    g[:3] = torch.tensor([1.0, 0.0, 2.0])
    with pytest.raises(GroupElementError):
        G.log(g)
