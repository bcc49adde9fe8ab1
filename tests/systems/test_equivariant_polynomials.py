"""Equivariant polynomials: features against brute force, networks and their readout, bad inputs, separation."""

import itertools

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from erlangen.actions import Permuted
from erlangen.data import brec_families, connected_graphs, rook_graph, shrikhande_graph
from erlangen.errors import DtypeError, ErlangenError, NotFiniteError, ShapeError, UnknownNameError
from erlangen.geometry import is_computable, multigraphs
from erlangen.groups import Symmetric
from erlangen.measure import separation_table
from erlangen.nn import GraphPolynomials
from erlangen.survey import Sizes
from erlangen.symmetry import Symmetry
from erlangen.systems.graphs.equivariant_polynomials import (
    PPGN,
    missing_polynomials,
    pair_means,
    polynomial_features,
)
from erlangen.systems.graphs.equivariant_polynomials import (
    _separation as separation,
)
from erlangen.systems.graphs.equivariant_polynomials._properties import degree_rows, over_all_maps
from erlangen.systems.graphs.equivariant_polynomials.data import molecules
from erlangen.systems.graphs.equivariant_polynomials.method import Pool, pair_sums
from erlangen.systems.graphs.equivariant_polynomials.rivals import matrix_products, message_passing

F64 = torch.float64


def layer() -> tuple[nn.Module, dict[str, Tensor], dict[str, object]]:
    """The network, which reads matrices of pairs alone."""
    net = PPGN(3, 4, 6, layers=2, generator=torch.Generator().manual_seed(0))
    sym = Symmetry(Symmetric(5), input="graph(channels=True)", output="invariant")
    return net, {"adj": randn(2, 5, 5, 3).float()}, {"symmetry": sym}


def polynomials() -> tuple[nn.Module, Tensor, dict[str, object]]:
    """All of degree 2 that give a number per pair; both axes of pairs move."""
    rows, columns, channel_rows = (Permuted(axis).on(Symmetric(5)) for axis in (-2, -1, -3))
    sym = Symmetry(
        Symmetric(5),
        input=lambda g, x: columns.act(g, rows.act(g, x)),
        output=lambda g, x: rows.act(g, channel_rows.act(g, x)),
    )
    return GraphPolynomials(multigraphs(2, 2)), randn(2, 5, 5).float(), {"symmetry": sym}


LAYERS = {"PPGN": layer, "GraphPolynomials": polynomials}


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def symmetric(*shape: int, seed: int = 0) -> Tensor:
    X = randn(*shape, seed=seed)
    return X + X.mT


# --- the experiment --------------------------------------------------------------------------------------------------
def test_expressivity_by_degree_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    from erlangen.survey.printing import paper_console, print_entry

    head = {"claims": [], "scale": "full", "seed": 0, "seconds": 1.0, "version": "0", "machine": "none"}
    print_entry(paper_console(), {"rows": [*degree_rows(), {"part": "other", "error": 1.0}], **head})
    lines = [line for line in capsys.readouterr().out.splitlines() if "expressivity" in line]
    assert len(lines) == 18
    assert [cell.strip() for cell in lines[-1].strip("│ ").split("│")][1:3] == ["6", "pairs"]


# --- features --------------------------------------------------------------------------------------------------------
def test_missing_polynomials_are_decided_not_listed() -> None:
    assert [len(missing_polynomials(degree)) for degree in range(1, 7)] == [0, 0, 0, 0, 1, 12]
    assert not any(is_computable(graph, 2) for graph in missing_polynomials(6))


def test_features_are_sums_over_all_maps() -> None:
    X = symmetric(5, 5)
    found = polynomial_features(X[None], 6, size="raw")[0]
    graphs = sorted(missing_polynomials(6), key=lambda graph: graph.order)
    for k, graph in enumerate(graphs):
        value = over_all_maps(graph, X)
        expected = value if graph.order == 2 else torch.diag(value) if graph.order == 1 else value.expand(5, 5)
        torch.testing.assert_close(found[..., k], expected)
        loop = torch.zeros(5, 5, dtype=F64)  # one map after the other, slowly
        if graph.order == 2 and graph.vertices == 4:
            for place in itertools.product(range(5), repeat=4):
                value = np.prod([X[place[r], place[s]].item() for r, s in graph.edges])
                loop[place[graph.outputs[0]], place[graph.outputs[1]]] += value
            torch.testing.assert_close(found[..., k], loop)


def test_cliques_are_counted() -> None:
    """The first feature of a simple graph counts complete subgraphs of four nodes, 24 times each."""
    graph = nx.gnp_random_graph(9, 0.7, seed=1)
    adj = torch.from_numpy(nx.to_numpy_array(graph))[None]
    cliques = sum(len(found) == 4 for found in nx.enumerate_all_cliques(graph))
    raw, logs = (polynomial_features(adj, 6, size=size)[0, 0, 0, 0] for size in ("raw", "logarithm"))
    assert cliques > 0
    assert float(raw) == 24 * cliques
    assert float(logs) == pytest.approx(np.log1p(24 * cliques))


@pytest.mark.parametrize("size", ["raw", "norms", "logarithm"])
def test_features_move_with_the_nodes_and_ignore_padding(size: str) -> None:
    X, p = symmetric(2, 6, 6), torch.randperm(6, generator=torch.Generator().manual_seed(1))
    features = polynomial_features(X, 6, size=size)
    torch.testing.assert_close(polynomial_features(X[:, p][:, :, p], 6, size=size), features[:, p][:, :, p])
    mask = torch.arange(6) < torch.tensor([[4], [6]])
    padded = polynomial_features(X, 6, mask, size=size)
    torch.testing.assert_close(padded[:1, :4, :4], polynomial_features(X[:1, :4, :4], 6, size=size))
    torch.testing.assert_close(padded[1], features[1])
    assert bool((padded[0, 4:] == 0).all())


def test_norms_are_one_or_zero() -> None:
    features = polynomial_features(torch.stack([rook_graph(4), torch.zeros(16, 16)]).double(), 6)
    norms = features.norm(dim=(1, 2))
    assert bool((norms[1] == 0).all())
    torch.testing.assert_close(norms[0], torch.ones(12, dtype=F64))


# --- networks --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (F64, 1e-12)])
def test_padded_batch_is_its_graphs(dtype: torch.dtype, tol: float) -> None:
    net = PPGN(2, 3, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    sizes = (1, 2, 5)
    mask = torch.arange(5) < torch.tensor(sizes)[:, None]
    x = randn(3, 5, 5, 2).to(dtype)
    for b, n in enumerate(sizes):
        noise = torch.where((mask[:, :, None] & mask[:, None])[..., None], x, 0)
        alone = net(noise[b : b + 1, :n, :n])
        assert bool(alone.isfinite().all())
        torch.testing.assert_close(net({"adj": noise, "mask": mask})[b : b + 1], alone, rtol=tol, atol=tol)


def test_readout_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0], [4.0, 3.0]])[None, ..., None]
    assert pair_means(x).tolist() == [[2.0, 3.0]]
    assert pair_means(torch.full((1, 1, 1, 1), 5.0)).tolist() == [[5.0, 0.0]]  # one node has no other pairs
    padded = nn.functional.pad(x, (0, 0, 0, 3, 0, 3))
    assert pair_means(padded, torch.tensor([[True, True, False, False, False]])).tolist() == [[2.0, 3.0]]


def test_sums_are_means_times_counts() -> None:
    x = torch.tensor([[1.0, 2.0], [4.0, 3.0]])[None, ..., None]
    assert pair_sums(x).tolist() == [[4.0, 6.0]]
    with pytest.raises(ShapeError, match=r"\[G, n, n, C\]"):
        pair_sums(x[0])
    with pytest.raises(UnknownNameError, match="means, sums"):
        PPGN(1, 1, pool="median")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("pool", ["means", "sums"])
def test_readouts_ignore_padding(pool: Pool) -> None:
    net = PPGN(2, 3, 4, layers=2, pool=pool, generator=torch.Generator().manual_seed(0)).double()
    x, mask = randn(2, 4, 4, 2), torch.ones(2, 4, dtype=torch.bool)
    padded = nn.functional.pad(x, (0, 0, 0, 2, 0, 2))
    torch.testing.assert_close(net(padded, nn.functional.pad(mask, (0, 2))), net(x), rtol=1e-10, atol=1e-12)


def test_products_of_matrices_confuse_what_the_polynomials_tell_apart() -> None:
    pair = torch.stack([rook_graph(4), shrikhande_graph()]).double()
    for seed in range(3):
        plain, more = (separation.ppgn(pair, degree, seed).detach() for degree in (0, 6))
        torch.testing.assert_close(plain[0], plain[1], rtol=1e-11, atol=1e-11)
        assert float((more[0] - more[1]).abs().max()) > 1e-6 * float(more.abs().max())


# --- separation ------------------------------------------------------------------------------------------------------
def test_counts_of_subgraphs_are_networkxs() -> None:
    adj = connected_graphs(6)[60:90].double()
    counts = separation.node_counts(adj)
    for graph, found in zip(adj, counts, strict=True):
        g = nx.from_numpy_array(graph.numpy())
        triangles = torch.tensor([float(k) for k in nx.triangles(g).values()], dtype=F64)
        assert torch.equal(found[:, 0], 2 * triangles)
        cliques = [c for c in nx.enumerate_all_cliques(g) if len(c) == 4]
        assert found[:, 3].tolist() == [6 * sum(v in c for c in cliques) for v in g]
        cycles = list(nx.simple_cycles(g, 5))
        for column, length in ((1, 4), (2, 5)):
            assert found[:, column].tolist() == [2 * sum(v in c for c in cycles if len(c) == length) for v in g]


def test_brec(shared_data) -> None:  # type: ignore[no-untyped-def]
    basic = brec_families(shared_data / "expressivity")["BREC, basic"]
    rows = separation_table(separation.separators(0), {"few": basic[:5]})
    left = {row["model"]: row["pairs not separated"] for row in rows}
    assert left["GIN"] == 5
    assert left["PPGN"] == left["PPGN++"] == 0


# --- regression ------------------------------------------------------------------------------------------------------
def test_every_model_reads_the_same_molecules() -> None:
    pytest.importorskip("rdkit")
    data = molecules(Sizes(8, 2, 2))
    assert float(data.target[:8].mean()) == pytest.approx(0, abs=1e-6)
    assert float(data.target[:8].std()) == pytest.approx(1, abs=1e-6)
    x, y = data.split(0).train
    assert x["random"].shape == x["polynomials"].shape
    assert torch.equal(x["random"], x["random"].transpose(1, 2))
    assert not torch.equal(x["random"], data.split(1).train[0]["random"])
    p = torch.randperm(x["mask"].shape[1], generator=torch.Generator().manual_seed(1))
    moved = {key: value[:, p] if key == "mask" else value[:, p][:, :, p] for key, value in x.items()}
    channels, more = x["pairs"].shape[-1], x["polynomials"].shape[-1]
    models = [message_passing(channels, 8, 2, 4), matrix_products(channels, 8, 2, 4)]
    models += [matrix_products(channels + more, 8, 2, 4, more=key) for key in ("random", "polynomials")]
    for model in models:
        assert model(x).shape == y.shape
        torch.testing.assert_close(model(moved), model(x), rtol=1e-4, atol=1e-5)


# --- bad input -------------------------------------------------------------------------------------------------------
SKEW = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])
BAD = {
    "degree": (lambda: missing_polynomials(7), ErlangenError, "79 connected graphs of 7 edges"),
    "features' degree": (lambda: polynomial_features(torch.zeros(1, 3, 3), 8), ErlangenError, "1 to 6 edges"),
    "not square": (lambda: polynomial_features(torch.zeros(1, 3, 2), 6), ShapeError, "square matrices"),
    "skew": (lambda: polynomial_features(SKEW, 6), ErlangenError, r"not symmetric at \(0, 0, 1\).*directed multigraphs"),
    "size": (lambda: polynomial_features(SKEW, 6, size="log"), UnknownNameError, "known are norms, logarithm, raw"),
    "mask": (lambda: polynomial_features(torch.zeros(1, 3, 3), 6, torch.ones(3)), ShapeError, "pass bool"),
    "overflow": (lambda: polynomial_features(torch.full((1, 5, 5), 1e7), 6), NotFiniteError, "pass float64"),
    "channels": (lambda: PPGN(2, 1)(torch.zeros(1, 3, 3, 1)), ShapeError, r"pass \[G, n, n, 2\]"),
    "negative degree": (lambda: missing_polynomials(-1), ErlangenError, "degree = -1"),
    "NaN": (lambda: polynomial_features(torch.full((1, 3, 3), torch.nan), 6), NotFiniteError, "not finite"),
    "integers": (lambda: polynomial_features(torch.ones(1, 3, 3).long(), 6), DtypeError, "adj.float"),
    "no pairs": (lambda: pair_means(torch.ones(2, 3, 3)), ShapeError, r"\[G, n, n, C\]"),
    "layers": (lambda: PPGN(2, 1, layers=0), ErlangenError, "layers = 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str) -> None:
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


def test_float64_holds_what_float32_does_not() -> None:
    assert bool(polynomial_features(torch.full((1, 5, 5), 1e7, dtype=F64), 6).isfinite().all())
