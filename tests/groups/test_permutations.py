"""Permutations and shifts against itertools, numpy, networkx and torch.roll."""

import itertools
import math

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from erlangen.errors import DtypeError, GroupError, OrbitError, ShapeError
from erlangen.groups import Shifts, Symmetric

permutation = st.integers(1, 9).flatmap(lambda n: st.permutations(range(n)))
pair = st.integers(1, 9).flatmap(lambda n: st.tuples(st.permutations(range(n)), st.permutations(range(n))))


# --- Symmetric --------------------------------------------------------------------------------------------
@settings(deadline=None, max_examples=25)
@given(pair=pair)
def test_products_compose_functions(pair: tuple[list[int], list[int]]) -> None:
    g, h = pair
    G = Symmetric(len(g))
    gh = G.compose(torch.tensor(g), torch.tensor(h))
    assert gh.tolist() == [g[h[i]] for i in range(len(g))]
    assert G.inverse(torch.tensor(g)).tolist() == np.argsort(g).tolist()


@settings(deadline=None, max_examples=25)
@given(g=permutation)
def test_matrix_and_sign(g: list[int]) -> None:
    G = Symmetric(len(g))
    P = G.linear(torch.tensor(g), dtype=torch.float64)
    expected = np.zeros((len(g), len(g)))
    for i, place in enumerate(g):
        expected[place, i] = 1
    assert np.array_equal(P.numpy(), expected)
    assert int(G.sign(torch.tensor(g))) == round(np.linalg.det(expected))


@settings(deadline=None, max_examples=25)
@given(pair=pair)
def test_sign_is_a_homomorphism(pair: tuple[list[int], list[int]]) -> None:
    g, h = map(torch.tensor, pair)
    G = Symmetric(len(g))
    assert G.sign(G.compose(g, h)) == G.sign(g) * G.sign(h)


def test_moving_the_nodes_of_a_graph_relabels_it() -> None:
    """The convention of networkx.relabel_nodes with the mapping i -> g[i]."""
    graph = nx.gnp_random_graph(7, 0.4, seed=1, directed=True)
    A = torch.from_numpy(nx.to_numpy_array(graph, nodelist=range(7)))
    G = Symmetric(7)
    for g in G.sample(5, generator=torch.Generator().manual_seed(0)):
        relabelled = nx.relabel_nodes(graph, {i: int(g[i]) for i in range(7)})
        P = G.linear(g, dtype=torch.float64)
        assert np.array_equal((P @ A @ P.mT).numpy(), nx.to_numpy_array(relabelled, nodelist=range(7)))
        x = torch.randn(7, 2, dtype=torch.float64)
        moved = torch.empty_like(x)
        moved[g] = x
        assert torch.equal(P @ x, moved)
        assert torch.equal(x[G.inverse(g)], moved)


def test_elements_are_lexicographic() -> None:
    for n in range(1, 7):
        elements = Symmetric(n).elements()
        assert elements.dtype == torch.int64
        assert elements.tolist() == [list(p) for p in itertools.permutations(range(n))]
        assert Symmetric(n).order == math.factorial(n)
    assert len(Symmetric(8).grid(50_000)) == 40_320


def test_large_groups_are_counted_but_not_listed() -> None:
    with pytest.raises(OrbitError, match=r"Symmetric\(9\) has 362,880 elements, more than the 50,000"):
        Symmetric(9).elements()
    with pytest.raises(OrbitError, match=r"Symmetric\(200\) has about 10\^375 elements"):
        Symmetric(200).elements()
    assert Symmetric(200).order == math.factorial(200)
    with pytest.raises(GroupError, match=r"grid of n = 5 elements would leave out"):
        Symmetric(4).grid(5)


def test_samples_are_uniform() -> None:
    G = Symmetric(4)
    g = G.sample(24_000, generator=torch.Generator().manual_seed(0))
    code = (g * torch.tensor([64, 16, 4, 1])).sum(-1)
    counts = code.unique(return_counts=True)[1]
    assert len(counts) == 24
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_symmetric_generators() -> None:
    assert Symmetric(1).discrete_generators.shape == (0, 1)
    assert Symmetric(2).discrete_generators.tolist() == [[1, 0]]
    assert Symmetric(4).discrete_generators.tolist() == [[1, 0, 2, 3], [1, 2, 3, 0]]


def test_what_is_no_permutation() -> None:
    G = Symmetric(3)
    g = torch.tensor([[0, 1, 2], [0, 0, 2], [1, 2, 3], [-1, 0, 1]])
    assert G.contains(g).tolist() == [True, False, False, False]
    assert not G.contains(torch.eye(3)).any()
    with pytest.raises(DtypeError, match="elements of Symmetric\\(3\\) are int64"):
        G.compose(torch.zeros(3), torch.zeros(3))
    with pytest.raises(ShapeError, match=r"g has shape \(4,\)"):
        G.linear(torch.arange(4))
    with pytest.raises(GroupError, match=r"Symmetric\(0\): n must be a positive integer, got 0"):
        Symmetric(0)


# --- Shifts -----------------------------------------------------------------------------------------------
@settings(deadline=None, max_examples=25)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    seed=st.integers(0, 2**31),
)
def test_shifts_compose_as_rolls(sizes: list[int], seed: int) -> None:
    G = Shifts(*sizes)
    generator = torch.Generator().manual_seed(seed)
    g, h = G.sample(2, generator=generator)
    x = torch.randn(*sizes, generator=generator)
    axes = tuple(range(len(sizes)))

    def roll(k: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return image.roll(tuple(k.tolist()), axes)

    assert torch.equal(roll(G.compose(g, h), x), roll(g, roll(h, x)))
    assert torch.equal(roll(G.inverse(g), roll(g, x)), x)
    assert torch.equal(G.compose(g, h), G.compose(h, g))


def test_shifts_act_as_translations() -> None:
    G = Shifts(5, 7)
    g = torch.tensor([[1, 2], [4, 6]])
    assert torch.equal(G.linear(g, dtype=torch.float64), torch.eye(2, dtype=torch.float64).expand(2, 2, 2))
    assert torch.equal(G.translation(g, dtype=torch.float64), g.to(torch.float64))
    assert G.translation(g).dtype == torch.get_default_dtype()


def test_shift_elements() -> None:
    G = Shifts(2, 3)
    assert G.order == 6
    assert G.elements().tolist() == [[i, j] for i in range(2) for j in range(3)]
    assert G.discrete_generators.tolist() == [[1, 0], [0, 1]]
    assert Shifts(1, 3).discrete_generators.tolist() == [[0, 1]]
    assert G.wrap(torch.tensor([-1, 7])).tolist() == [1, 1]
    assert G.contains(torch.tensor([[1, 2], [2, 0], [0, -1]])).tolist() == [True, False, False]
    counts = torch.unique(G.sample(6_000, generator=torch.Generator().manual_seed(0)), dim=0, return_counts=True)[1]
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_what_is_no_shift() -> None:
    with pytest.raises(GroupError, match=r"Shifts\(\): needs the size of each axis"):
        Shifts()
    with pytest.raises(GroupError, match=r"Shifts\(0\): each size must be a positive integer, got 0"):
        Shifts(3, 0)
    with pytest.raises(DtypeError, match="int64"):
        Shifts(3).compose(torch.tensor([0.5]), torch.tensor([0.5]))
    with pytest.raises(ShapeError, match=r"g has shape \(2,\)"):
        Shifts(3).inverse(torch.tensor([0, 1]))
