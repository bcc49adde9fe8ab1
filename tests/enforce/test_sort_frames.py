"""Sort frames against brute force, networkx and closed forms of spectra."""

import itertools
import math
from typing import Any

import networkx as nx
import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from erlangen.enforce import SortFrame, spectral_signature, symmetrize
from erlangen.errors import ActionError, GroupError, OrbitError, ShapeError
from erlangen.groups import SO, Symmetric
from erlangen.symmetry import Symmetry


def nodes(n: int, output: str = "invariant") -> Symmetry:
    return Symmetry(Symmetric(n), input="permuted", output=output)


def graphs(n: int, output: str = "invariant") -> Symmetry:
    return Symmetry(Symmetric(n), input="graph", output=output)


def adjacency(graph: Any) -> Tensor:
    return torch.tensor(nx.to_numpy_array(graph), dtype=torch.float32)[None]


def as_set(elements: Tensor, weights: Tensor) -> set[tuple[int, ...]]:
    return {tuple(g) for g, w in zip(elements.tolist(), weights.tolist(), strict=True) if w > 0}


class FlatMLP(nn.Module):
    """Reads the flattened adjacency: not invariant at all."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(n * n, 32), nn.Tanh(), nn.Linear(32, 3)).double()

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return self.net(x["adj"].double().flatten(1))


# --- features --------------------------------------------------------------------------------------------------------
@settings(max_examples=25)
@given(rows=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=5))
def test_frames_are_exactly_the_sorting_permutations(rows: list[tuple[int, int]]) -> None:
    n = len(rows)
    frames = SortFrame(nodes(n))(torch.tensor(rows)[None])
    expected = {g for g in itertools.permutations(range(n)) if [rows[i] for i in g] == sorted(rows)}
    assert as_set(frames.elements[0], frames.weights[0]) == expected
    assert frames.elements.shape[1] == len(expected)
    torch.testing.assert_close(frames.weights.sum(-1), torch.ones(1, dtype=torch.float64))


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31))
def test_frames_are_equivariant(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    group = Symmetric(6)
    x = torch.randint(0, 3, (4, 6, 2), generator=generator).float()
    g = group.sample(4, generator=generator)
    symmetry = nodes(6)
    before, after = SortFrame(symmetry)(x), SortFrame(symmetry)(symmetry.input.act(g, x))
    composed = group.compose(g[:, None], before.elements)
    for b in range(4):
        assert as_set(after.elements[b], after.weights[b]) == as_set(composed[b], before.weights[b])


def test_frames_of_a_batch_are_padded_with_weight_zero() -> None:
    x = torch.tensor([[[1.0], [2.0], [3.0]], [[1.0], [1.0], [3.0]], [[1.0], [1.0], [1.0]]])
    frames = SortFrame(nodes(3))(x)
    assert frames.weights.gt(0).sum(-1).tolist() == [1, 2, 6]
    assert bool(Symmetric(3).contains(frames.elements).all())
    torch.testing.assert_close(frames.weights.sum(-1), torch.ones(3, dtype=torch.float64))


def test_masked_nodes_come_last_and_do_not_tie() -> None:
    x = torch.tensor([[[5.0], [3.0], [3.0], [0.0], [0.0], [math.nan]]])
    mask = torch.tensor([[True, True, True, False, False, False]])
    frames = SortFrame(nodes(6))(x, mask)
    assert as_set(frames.elements[0], frames.weights[0]) == {(1, 2, 0, 3, 4, 5), (2, 1, 0, 3, 4, 5)}


def test_nodes_with_one_number_each() -> None:
    symmetry = Symmetry(Symmetric(3), input="permuted(axis=-1)", output="invariant")
    frames = SortFrame(symmetry)(torch.tensor([[3.0, 1.0, 2.0]]))
    assert frames.elements.tolist() == [[[1, 2, 0]]]


# --- graphs ----------------------------------------------------------------------------------------------------------
def test_signature_is_the_absolute_eigenvector_for_simple_spectra() -> None:
    graph = nx.path_graph(7)
    _, vectors = scipy.linalg.eigh(nx.laplacian_matrix(graph).toarray().astype(float))
    signature = spectral_signature(adjacency(graph))[0].numpy()
    np.testing.assert_allclose(signature, np.abs(vectors), atol=1e-10)


@pytest.mark.parametrize("n", [2, 5, 9])
def test_signature_of_complete_graphs(n: int) -> None:
    signature = spectral_signature(adjacency(nx.complete_graph(n)))[0]
    torch.testing.assert_close(signature[:, 0], torch.full((n,), n**-0.5, dtype=torch.float64))
    torch.testing.assert_close(signature[:, 1], torch.full((n,), (1 - 1 / n) ** 0.5, dtype=torch.float64))
    assert bool((signature[:, 2:] == 0).all())


@pytest.mark.parametrize("graph", [nx.path_graph(5), nx.cycle_graph(6), nx.star_graph(4), nx.ladder_graph(3)])
def test_frames_contain_every_automorphism(graph: Any) -> None:
    n = graph.number_of_nodes()
    frames = SortFrame(graphs(n))({"adj": adjacency(graph)})
    found = as_set(frames.elements[0], frames.weights[0])
    matcher = nx.isomorphism.GraphMatcher(graph, graph)
    automorphisms = [[m[i] for i in range(n)] for m in matcher.isomorphisms_iter()]
    assert len(automorphisms) > 1
    for s in automorphisms:
        assert {tuple(s[i] for i in g) for g in found} == found


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31))
def test_graph_frames_are_equivariant(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    upper = (torch.rand(4, 7, 7, generator=generator) < 0.5).float().triu(1)
    x = {"adj": upper + upper.mT, "x": torch.randint(0, 2, (4, 7, 1), generator=generator)}
    g = Symmetric(7).sample(4, generator=generator)
    symmetry = graphs(7)
    frame = SortFrame(symmetry)
    before, after = frame(x), frame(symmetry.input.act(g, x))
    composed = g.gather(-1, before.elements.flatten(1)).reshape(before.elements.shape)
    for b in range(4):
        assert as_set(after.elements[b], after.weights[b]) == as_set(composed[b], before.weights[b])


def test_padding_does_not_change_the_graph() -> None:
    graph = nx.lollipop_graph(3, 2)
    small = SortFrame(graphs(5))({"adj": adjacency(graph)})
    padded = torch.ones(1, 8, 8)
    padded[:, :5, :5] = adjacency(graph)
    mask = torch.arange(8)[None] < 5
    large = SortFrame(graphs(8))({"adj": padded}, mask)
    inside = SortFrame(graphs(8))({"adj": padded, "mask": mask})
    expected = {(*g, 5, 6, 7) for g in as_set(small.elements[0], small.weights[0])}
    assert as_set(large.elements[0], large.weights[0]) == expected
    assert as_set(inside.elements[0], inside.weights[0]) == expected


def test_averages_are_invariant_and_separate_all_connected_graphs_of_six_nodes() -> None:
    atlas = [g for g in nx.graph_atlas_g() if g.number_of_nodes() == 6 and nx.is_connected(g)]
    assert len(atlas) == 112
    adj = torch.cat([adjacency(g) for g in atlas])
    model = symmetrize(FlatMLP(6), graphs(6))
    out = model({"adj": adj})
    g = Symmetric(6).sample(112, generator=torch.Generator().manual_seed(1))
    moved = model(model.symmetry.input.act(g, {"adj": adj}))
    assert (out - moved).abs().max() < 1e-12
    apart = torch.cdist(out, out) + torch.eye(112)
    assert apart.min() > 1e-6


def test_equivariant_outputs_follow_the_nodes() -> None:
    x = torch.randn(5, 6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, 3] = x[:, 1]
    mix = torch.randn(6, 6, dtype=torch.float64)
    model = symmetrize(lambda t: torch.tanh(mix @ t), nodes(6, "permuted"))
    g = Symmetric(6).sample(5, generator=torch.Generator().manual_seed(1))
    act = model.symmetry.input.act
    torch.testing.assert_close(model(act(g, x)), act(g, model(x)), rtol=0, atol=1e-13)
    assert (model(x) - torch.tanh(mix @ x)).abs().max() > 0.1


# --- ties and sampling -----------------------------------------------------------------------------------------------
def test_too_many_ties_ask_for_samples() -> None:
    x = torch.zeros(2, 200, 1)
    x[0, :, 0] = torch.arange(200)
    with pytest.raises(OrbitError, match=r"sample 1 .* 10\^375 permutations .* samples=k"):
        SortFrame(nodes(200))(x)
    with pytest.raises(OrbitError, match=r"4.03e\+04 permutations large, more than the limit of 5040"):
        SortFrame(nodes(8))(torch.zeros(1, 8, 1))


def test_samples_are_uniform_over_the_frame() -> None:
    x = torch.tensor([[[1.0], [0.0], [0.0], [0.0]]])
    frame = SortFrame(nodes(4))
    drawn = frame.sample(x.expand(3000, -1, -1), 2, torch.Generator().manual_seed(0))
    assert drawn.elements.shape == (3000, 2, 4)
    full = frame(x).elements[0]
    counts = (drawn.elements.flatten(0, 1)[:, None] == full).all(-1).sum(0).double()
    assert counts.sum() == 6000
    # Multinomial with p = 1/6: standard deviation 28.9.
    assert (counts - 1000).abs().max() < 4 * 28.9


def test_sampled_training_is_unbiased() -> None:
    graph = adjacency(nx.cycle_graph(6))
    net = FlatMLP(6)
    full = symmetrize(net, graphs(6))({"adj": graph})
    model = symmetrize(net, graphs(6), samples=1).train()
    with torch.no_grad():
        draws = model({"adj": graph.expand(2000, -1, -1)})
    error = (draws.mean(0) - full[0]).abs()
    assert (draws.std(0) > 1e-3).all()
    assert bool((error < 4 * draws.std(0) / 2000**0.5).all())


def test_sampled_evaluation_is_whole_where_it_can_be_and_deterministic() -> None:
    net = FlatMLP(9)
    # Few ties in a path and a pair of paths; in a cycle all nine nodes tie, and the order matters to the net.
    shapes = [nx.path_graph(9), nx.disjoint_union(nx.path_graph(4), nx.path_graph(5)), nx.cycle_graph(9)]
    adj = torch.cat([adjacency(shape) for shape in shapes])
    model = symmetrize(net, graphs(9), samples=5).eval()
    assert model.certificate == "statistical"
    out = model({"adj": adj})
    torch.testing.assert_close(model({"adj": adj}), out, rtol=0, atol=0)
    torch.testing.assert_close(model({"adj": adj.flip(0)}).flip(0), out)
    torch.testing.assert_close(symmetrize(net, graphs(9))({"adj": adj[:2]}), out[:2])
    other = symmetrize(net, graphs(9), samples=5, seed=1).eval()({"adj": adj})
    assert (other - out).abs().amax(1).gt(1e-6).tolist() == [False, False, True]


def test_samples_need_no_more_elements_than_the_frame_has() -> None:
    x = torch.arange(6.0).reshape(1, 6, 1)
    drawn = SortFrame(nodes(6)).sample(x, 50, torch.Generator().manual_seed(0))
    assert drawn.elements.shape == (1, 1, 6)


# --- errors ----------------------------------------------------------------------------------------------------------
def test_only_permutations_sort() -> None:
    with pytest.raises(GroupError, match=r"Symmetric\(n\), not of SO\(3\)"):
        SortFrame(Symmetry(SO(3), input="points", output="invariant"))
    with pytest.raises(ActionError, match="no nodes to sort"):
        SortFrame(Symmetry(Symmetric(3), input="invariant", output="invariant"))


def test_graphs_need_an_adjacency() -> None:
    edges = torch.zeros(1, 2, 4, dtype=torch.int64)
    with pytest.raises(ActionError, match="edge_index but no adj"):
        SortFrame(graphs(3))({"edge_index": edges})
    with pytest.raises(ActionError, match="nothing to sort"):
        SortFrame(graphs(3))({"y": edges})


def test_wrong_number_of_nodes() -> None:
    with pytest.raises(ShapeError, match=r"x has 4 nodes, but the group is Symmetric\(3\)"):
        SortFrame(nodes(3))(torch.zeros(1, 4, 1))
    with pytest.raises(ShapeError, match=r"mask has shape \(1, 2\)"):
        SortFrame(nodes(3))(torch.zeros(1, 3, 1), torch.ones(1, 2, dtype=torch.bool))
