"""Networks that tell graphs apart: names of nodes against refined colours, in batches."""

import pytest
import torch

from erlangen.nn import BareGIN, NamedGIN, stretched


def told(net: torch.nn.Module, adj: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return net({"adj": adj})


def cycles(*lengths: int) -> torch.Tensor:
    """Adjacency of disjoint cycles."""
    return torch.block_diag(*(torch.eye(n).roll(1, 0) + torch.eye(n).roll(-1, 0) for n in lengths)).double()


PAIR = torch.stack([cycles(6), cycles(3, 3)])
"""The smallest regular graphs that refined colours take for one."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_names_tell_what_colours_cannot() -> None:
    bare, named = (stretched(make) for make in (BareGIN(generator=seeded()), NamedGIN(6, generator=seeded())))
    first, second = told(bare, PAIR)
    torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)
    first, second = told(named, PAIR)
    assert float((first - second).abs().max()) > 1e-3


@pytest.mark.parametrize("named", [0, 2, 6])
def test_the_order_of_nodes_without_names_does_not_matter(named: int) -> None:
    net = stretched(NamedGIN(6, named, generator=seeded())) if named else stretched(BareGIN(generator=seeded()))
    edges = torch.rand(5, 6, 6, generator=seeded(1)).double().triu(1).round()
    adj = edges + edges.mT
    out = told(net, adj)
    assert out.shape == (5, 10)
    order = torch.cat([torch.arange(named), named + torch.randperm(6 - named, generator=seeded(2))])
    moved = told(net, adj[:, order][:, :, order])
    torch.testing.assert_close(moved, out, rtol=1e-10, atol=1e-12)
    swapped = [1, 0, 2, 3, 4, 5]  # two of those with names, if any
    change = (told(net, adj[:, swapped][:, :, swapped]) - out).abs().max()
    assert (float(change) > 1e-3) == (named > 0)


def test_graphs_of_a_batch_do_not_see_each_other() -> None:
    net = stretched(NamedGIN(6, 3, generator=seeded()))
    torch.testing.assert_close(told(net, PAIR), torch.cat([told(net, adj[None]) for adj in PAIR]))
