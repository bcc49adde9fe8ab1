"""Permutation-equivariant maps of graphs, nodes and pairs: against the basis of set partitions and the solver, and by hand."""

import networkx as nx
import numpy as np
import pytest
import torch

from erlangen.errors import ErlangenError, ShapeError
from erlangen.groups import Symmetric
from erlangen.nn import PermutationLinear, PPGNBlock
from erlangen.nn.graphs.permutation_tensors import MAPS, ORDERS
from erlangen.symmetry import Symmetry
from erlangen.testing import check_layer

F64 = torch.float64
KEYS = {order: key for key, order in ORDERS.items()}
BELL = {0: 1, 1: 1, 2: 2, 3: 5, 4: 15}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def features(n, keys=("y", "x", "adj"), channels=3, batch=2, dtype=F64):
    shapes = {"y": (batch, channels), "x": (batch, n, channels), "adj": (batch, n, n, channels)}
    return {key: randn(*shapes[key], seed=i, dtype=dtype) for i, key in enumerate(keys)}


def matrices(k, order, n):
    """Every map of a pair of orders as a matrix, ``[maps, n^order, n^k]``."""
    key, out = KEYS[k], KEYS[order]
    layer = PermutationLinear({key: 1}, {out: 1}, bias=False).double()
    basis = torch.eye(n**k, dtype=F64).reshape(n**k, *[n] * k, 1)
    found = []
    for i in range(len(MAPS[k, order])):
        with torch.no_grad():
            layer.weights[f"{key}_to_{out}"].zero_()[i] = 1
            found.append(
                layer({key: basis} if k else {key: basis.reshape(1, 1)}, mask_of(k, order, n))[out].reshape(n**k, -1).mT
            )
    return torch.stack(found)


def mask_of(k, order, n):
    return torch.ones(1, n, dtype=torch.bool) if k == 0 and order else None


@pytest.mark.parametrize("k", [0, 1, 2])
@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("n", [4, 5])
def test_maps_span_all_equivariant_maps(k, order, n):
    """As many as there are partitions, independent, and fixed by averaging over all permutations."""
    maps = matrices(k, order, n).flatten(1)
    assert len(maps) == BELL[k + order]
    assert int(torch.linalg.matrix_rank(maps)) == BELL[k + order]
    # The space of all equivariant maps: the average over the group is a projector, and its trace is the dimension.
    permutations = torch.eye(n, dtype=F64)[Symmetric(n).elements()]

    def power(times):
        one = torch.ones(len(permutations), 1, 1, dtype=F64)
        for _ in range(times):
            one = torch.einsum("gab,gcd->gacbd", one, permutations).reshape(len(one), one.shape[1] * n, -1)
        return one

    acting = power(k + order)
    projector = acting.mean(0)
    assert round(float(projector.trace())) == BELL[k + order]
    columns = maps.reshape(len(maps), n**order, n**k).flatten(1)
    torch.testing.assert_close(columns @ projector.mT, columns)


@pytest.mark.parametrize(("n", "rank"), [(1, 1), (2, 8), (3, 14)])
def test_small_graphs_have_fewer_maps(n, rank):
    assert int(torch.linalg.matrix_rank(matrices(2, 2, n).flatten(1))) == rank


def test_the_fifteen_maps_by_hand():
    n = 4
    A = randn(n, n)
    I, one = torch.eye(n, dtype=F64), torch.ones(n, n, dtype=F64)
    rows, columns, diagonal = A.mean(1), A.mean(0), A.diagonal()
    expected = [
        A, A.T,
        diagonal[:, None] * one, rows[:, None] * one, columns[:, None] * one,
        diagonal * one, rows * one, columns * one,
        torch.diag(diagonal), torch.diag(rows), torch.diag(columns), diagonal.mean() * I, A.mean() * I,
        diagonal.mean() * one, A.mean() * one,
    ]  # fmt: skip
    layer = PermutationLinear({"adj": 1}, {"adj": 1}, bias=False).double()
    for i, wanted in enumerate(expected):
        with torch.no_grad():
            layer.weights["adj_to_adj"].zero_()[i] = 1
            torch.testing.assert_close(layer({"adj": A[..., None]})["adj"][..., 0], wanted)


def test_layer_keeps_the_contract():
    sym = Symmetry(Symmetric(5), input="graph(channels=True)", output="graph(channels=True)")
    layer = PermutationLinear({"y": 3, "x": 3, "adj": 3}, {"y": 2, "x": 4, "adj": 2}, generator=seeded())
    with torch.no_grad():
        for bias in layer.bias.values():
            bias.normal_(generator=seeded(1))
    check_layer(layer, features(5, dtype=torch.float32), sym)
    check_layer(layer.double(), features(5), sym, skip=["dtype"])  # it is float64 already
    torch.compiler.reset()


def test_ppgn_block_keeps_the_contract():
    sym = Symmetry(Symmetric(5), input="graph(channels=True)", output="graph(channels=True)")

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.block = PPGNBlock(3, 4, generator=seeded())

        def forward(self, x):
            return {"adj": self.block(x["adj"])}

    check_layer(Block(), features(5, ("adj",), dtype=torch.float32), sym)
    torch.compiler.reset()


@pytest.mark.parametrize("kind", ["linear", "ppgn"])
def test_padded_batches_are_single_graphs(kind):
    keys = ("y", "x", "adj") if kind == "linear" else ("adj",)
    x = features(6, keys, batch=3)
    mask = torch.tensor([[True] * 4 + [False] * 2, [True] * 6, [True] + [False] * 5])
    if kind == "linear":
        layer = PermutationLinear(dict.fromkeys(keys, 3), {"y": 2, "x": 2, "adj": 2}, generator=seeded()).double()
    else:
        block = PPGNBlock(3, 2, generator=seeded()).double()

        def layer(x, mask=None):
            return {"adj": block(x["adj"], mask)}

    def cut(x, b, n):
        """Graph b, with its n nodes."""
        return {key: value[(slice(b, b + 1), *[slice(n)] * ORDERS[key])] for key, value in x.items()}

    padded = layer(x, mask)
    for b, n in enumerate((4, 6, 1)):
        for key, value in layer(cut(x, b, n)).items():
            torch.testing.assert_close(cut(padded, b, n)[key], value)
    if kind == "linear":
        assert bool((padded["x"][~mask] == 0).all())
    assert bool((padded["adj"][0, 4:] == 0).all())
    assert bool((padded["adj"][0, :, 4:] == 0).all())


def test_ppgn_multiplies_matrices():
    """With the identity for both networks a block counts paths of length two, which networkx counts, too."""
    block = PPGNBlock(1, 1, depth=1).double()
    with torch.no_grad():
        for net in (block.left, block.right):
            net[0].weight.fill_(1)
            net[0].bias.zero_()
        block.skip[0].weight.copy_(torch.tensor([[0.0, 1.0]]))
        block.skip[0].bias.zero_()
    graph = nx.gnp_random_graph(9, 0.4, seed=1, directed=True)
    A = torch.from_numpy(nx.to_numpy_array(graph))
    paths = block(A[..., None])[..., 0].detach().numpy()
    assert np.array_equal(paths, np.linalg.matrix_power(nx.to_numpy_array(graph), 2))


def test_gradcheck():
    layer = PermutationLinear({"adj": 2}, {"adj": 2, "x": 1, "y": 1}, generator=seeded()).double()
    assert torch.autograd.gradcheck(lambda a: tuple(layer({"adj": a}).values()), randn(1, 5, 5, 2).requires_grad_())


BAD = {
    "none": (lambda: PermutationLinear({}, {"x": 1}), ErlangenError, "in_channels"),
    "key": (lambda: PermutationLinear({"pos": 1}, {"x": 1}), ErlangenError, "some of y, x, adj"),
    "keys": (lambda: PermutationLinear({"x": 1}, {"x": 1})({"adj": torch.ones(2, 2, 1)}), ShapeError, "takes"),
    "square": (lambda: PermutationLinear({"adj": 1}, {"x": 1})({"adj": torch.ones(2, 3, 1)}), ShapeError, "adj has shape"),
    "nodes": (
        lambda: PermutationLinear({"x": 1, "adj": 1}, {"x": 1})({"x": torch.ones(2, 1), "adj": torch.ones(3, 3, 1)}),
        ShapeError,
        "adj has shape",
    ),
    "graph alone": (lambda: PermutationLinear({"y": 1}, {"x": 1})({"y": torch.ones(2, 1)}), ShapeError, "pass a mask"),
    "block size": (lambda: PPGNBlock(1, 0), ErlangenError, "out_channels = 0"),
    "block square": (lambda: PPGNBlock(2, 1)(torch.ones(3, 4, 2)), ShapeError, r"pass \[..., n, n, 2\]"),
    "block mask": (lambda: PPGNBlock(2, 1)(torch.ones(3, 3, 2), torch.ones(3)), ShapeError, "pass bool"),
    "mask": (
        lambda: PermutationLinear({"x": 1}, {"x": 1})({"x": torch.ones(2, 4, 1)}, torch.ones(2, 3, dtype=torch.bool)),
        ShapeError,
        "pass bool",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()
