"""Lists of samples, sets of different size, graphs, loaders: the numbers are those of one sample at a time."""

import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import erlangen as er
from erlangen.data import GraphData
from erlangen.errors import DataError, ErlangenError, ModelError
from erlangen.measure import per_sample

GENERATOR = torch.Generator().manual_seed(0)
CLOUDS = [torch.randn(n, 3, generator=GENERATOR, dtype=torch.float64) for n in (4, 2, 7, 4, 5)]
TURNS = er.Symmetry("SO(3)", input="points", output="invariant")
ARROWS = er.Symmetry("SO(3)", input="points", output="vectors")
ELEMENTS = er.SO(3).sample(9, generator=GENERATOR, dtype=torch.float64)


def one_by_one(fn, symmetry, samples, elements=ELEMENTS):
    """Errors of every sample by itself, in its own size: what a list must give."""
    columns = [er.equivariance_error(fn, symmetry, s[None], elements=elements, reduce="none") for s in samples]
    return torch.cat(columns, 1)


def spread(pos):
    """Broken by the first coordinate, in every size: mean of x^2 and of |p|."""
    return torch.stack([pos[..., 0].square().mean(-1), pos.norm(dim=-1).mean(-1)], -1)


def spread_masked(pos, mask):
    count = mask.sum(1)
    return torch.stack([(pos[..., 0].square() * mask).sum(1) / count, (pos.norm(dim=-1) * mask).sum(1) / count], -1)


def forces(pos):
    """A row for every row: away from the centre, and broken by a constant one."""
    return pos - pos.mean(1, keepdim=True) + torch.tensor([0.1, 0, 0], dtype=pos.dtype)


def forces_masked(pos, mask):
    centre = (pos * mask[..., None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]
    return pos - centre + torch.tensor([0.1, 0, 0], dtype=pos.dtype)  # also in rows that do not exist


# --- sets of different size -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["tensors", "arrays", "lists", "__dlpack__"])
@pytest.mark.parametrize("model", [spread, spread_masked])
def test_sets_of_different_size(kind, model):
    samples = {
        "tensors": CLOUDS,
        "arrays": [cloud.numpy() for cloud in CLOUDS],
        "lists": [cloud.tolist() for cloud in CLOUDS],
        "__dlpack__": [
            types.SimpleNamespace(__dlpack__=c.__dlpack__, __dlpack_device__=c.__dlpack_device__) for c in CLOUDS
        ],
    }[kind]
    if kind == "lists":
        samples, tol = samples, 1e-5  # lists are read in torch's default dtype
    else:
        tol = 1e-12
    if kind == "__dlpack__":  # the protocol is looked up on the class
        samples = [ByDlpack(cloud) for cloud in CLOUDS]
    elements = ELEMENTS if kind != "lists" else ELEMENTS.float()
    found = er.equivariance_error(model, TURNS, samples, elements=elements, reduce="none")
    assert torch.allclose(found, one_by_one(spread, TURNS, CLOUDS), atol=tol)


class ByDlpack:
    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack__(self, **options):
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


@pytest.mark.parametrize("model", [forces, forces_masked])
def test_answers_with_a_row_for_each_row(model):
    """Rows that do not exist count nowhere, whatever a model answers there."""
    report = er.audit(model, ARROWS, CLOUDS, [forces(c[None])[0] for c in CLOUDS], elements=ELEMENTS)
    assert torch.allclose(report.errors, one_by_one(forces, ARROWS, CLOUDS), atol=1e-12)
    assert report.upright == 0
    assert report.certificate == "statistical"
    right = er.audit(lambda pos: pos - pos.mean(1, keepdim=True), ARROWS, CLOUDS, elements=ELEMENTS)
    assert right.worst_error < 1e-12


def test_a_module_never_sees_padding_without_a_mask():
    class Pool(nn.Module):
        def forward(self, pos):
            assert bool((pos.abs().sum(-1) > 0).all())
            return pos.norm(dim=-1).amin(1, keepdim=True)

    assert er.audit(Pool(), TURNS, CLOUDS, elements=ELEMENTS, layers=True).worst_error < 1e-12
    assert er.assert_equivariant(Pool(), CLOUDS, TURNS) < 1e-12
    assert float(er.lie_derivative(Pool(), TURNS, CLOUDS).max()) < 1e-6
    assert er.worst_case(Pool(), TURNS, CLOUDS, elements=4, rounds=1).score < 1e-12
    assert er.discover(Pool(), [TURNS], CLOUDS)[0].holds
    smallest = per_sample(lambda pos: np.linalg.norm(pos, axis=-1).min())
    assert er.audit(smallest, TURNS, CLOUDS, elements=ELEMENTS).worst_error < 1e-12


def test_dicts_of_samples_and_labels():
    atoms = [{"pos": cloud, "charge": torch.ones(len(cloud)), "total": torch.tensor(1.0)} for cloud in CLOUDS]
    action = {"pos": "points", "charge": "invariant", "total": "invariant"}
    symmetry = er.Symmetry("SE(3)", input=action, output={"energy": "invariant", "forces": "vectors"})

    def model(pos, charge, total):
        assert charge.shape == pos.shape[:2]
        centre = pos.mean(1, keepdim=True)
        return {"energy": ((pos - centre).norm(dim=-1) * charge).sum(1) * total, "forces": pos - centre}

    y = [{"energy": torch.tensor(0.5), "forces": torch.zeros(len(cloud), 3)} for cloud in CLOUDS]

    def score(answer, target):
        return -(answer["forces"] - target["forces"]).square().sum((1, 2)) - (answer["energy"] - target["energy"]).abs()

    report = er.audit(model, symmetry, atoms, y, metric=score, elements=16)
    assert report.worst_error < 1e-10
    assert set(report.entries) == {"energy", "forces"}


def test_permutations_move_the_mask():
    """Sets of up to seven points under S7: a mean over rows that exist, and the first row, which is not invariant."""
    symmetry = er.Symmetry("S7", input="permuted", output="invariant")
    for model in (spread, spread_masked):
        assert er.audit(model, symmetry, CLOUDS, elements=20).worst_error < 1e-12
    assert er.audit(lambda pos: pos[:, 0], symmetry, CLOUDS, elements=20).worst_error > 0.1
    both = er.Symmetry("S7 x SE(3)", input="permuted * points", output="permuted * points")
    assert er.audit(lambda pos: pos, both, CLOUDS, elements=20).worst_error < 1e-12
    nodes = er.Symmetry("S7", input="permuted", output="permuted")
    assert er.audit(lambda pos: pos.cumsum(1), nodes, CLOUDS, elements=20).worst_error > 0.1


def test_lists_of_equal_samples_are_a_batch_and_lists_of_arguments_stay():
    equal = [cloud[:2] for cloud in CLOUDS]
    found = er.equivariance_error(spread, TURNS, equal, elements=ELEMENTS, reduce="none")
    assert torch.equal(
        found, er.equivariance_error(spread, TURNS, torch.stack(equal), elements=ELEMENTS, reduce="none")
    )
    pair = er.Symmetry("SO(3)", input=["points", "points"], output="invariant")
    a, b = torch.stack(equal), torch.stack(equal).flip(0)
    assert er.audit(lambda x: (x[0] * x[1]).sum((1, 2)), pair, [a, b], elements=ELEMENTS).worst_error < 1e-10


@pytest.mark.parametrize(
    ("x", "symmetry", "words"),
    [
        (
            [torch.ones(1), torch.ones(2)],
            er.Symmetry("SO(2)", input="vectors", output="invariant"),
            "different lengths",
        ),
        (
            [torch.ones(3, 4, 4), torch.ones(3, 5, 5)],
            er.Symmetry("C4", input="image", output="invariant"),
            "different size",
        ),
        ([torch.ones(4, 3), torch.ones(4)], TURNS, r"x\[1\] is \[4\], but x\[0\] is \[4, 3\]"),
        ([{"a": torch.ones(2, 3)}, {"b": torch.ones(2, 3)}], TURNS, r"x\[1\]"),
        ([torch.ones(2, 3), "cloud"], TURNS, r"x\[1\] is a str"),
    ],
)
def test_what_cannot_be_padded_is_named(x, symmetry, words):
    with pytest.raises(DataError, match=words):
        er.audit(lambda x: x.flatten(1)[:, :1], symmetry, x)


def test_labels_of_rows_and_custom_actions():
    with pytest.raises(DataError, match="class labels for rows"):
        er.audit(forces, ARROWS, CLOUDS, [torch.zeros(len(c)).long() for c in CLOUDS])
    custom = er.Symmetry("S7", input=lambda g, x: x, output="invariant")
    with pytest.raises(DataError, match=r"how .* moves their mask"):
        er.audit(spread, custom, CLOUDS)
    with pytest.raises(ModelError, match="as many entries as the sample has rows"):
        er.audit(lambda pos: pos.repeat(1, 2, 1), ARROWS, CLOUDS)


# --- graphs ----------------------------------------------------------------------------------------------------------
def ring(n):
    return torch.stack([torch.arange(n), (torch.arange(n) + 1) % n])


def graphs():
    rings = [ring(n) for n in (3, 5, 4)]
    return [
        {"edge_index": torch.cat([r, r.flip(0)], 1), "x": torch.arange(r.shape[1])[:, None].double()} for r in rings
    ]


def triangles(adj, x):
    return torch.stack([(adj @ adj @ adj).diagonal(dim1=1, dim2=2).sum(1), x.double().sum((1, 2))], 1)


GRAPHS = er.Symmetry("S5", input="graph", output="invariant")


def test_lists_of_graphs_with_edges():
    assert er.audit(triangles, GRAPHS, graphs(), elements=20).worst_error < 1e-6
    first = er.audit(lambda adj, x: adj[:, 0, :2], GRAPHS, graphs(), elements=30)
    assert first.worst_error > 0.1
    by_mask = er.audit(lambda adj, x, mask: (x[..., 0] * mask).sum(1), GRAPHS, graphs(), elements=20)
    assert by_mask.worst_error < 1e-6
    with pytest.raises(DataError, match="channels=True"):
        er.audit(triangles, GRAPHS, [g | {"edge_attr": torch.ones(g["edge_index"].shape[1], 2)} for g in graphs()])


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (torch.zeros(3, 2, dtype=torch.int64), r"has shape \(3, 2\) of torch.int64; give int64 \[2, E\]"),
        (torch.zeros(2, dtype=torch.int64), r"has shape \(2,\)"),
        (torch.zeros(2, 4), r"of torch.float32; give int64"),
        (torch.tensor([[0, 1], [1, 3]]), "names node 3 of 3"),
        (torch.tensor([[0, -1], [1, 0]]), "numbered from 0"),
    ],
)
def test_edges_of_another_form_are_refused(edges, message):
    bad = [{"edge_index": edges, "x": torch.zeros(3, 1).double()}, *graphs()[1:]]
    with pytest.raises(DataError, match=message):
        er.audit(triangles, GRAPHS, bad, elements=2)


def graph_set(labels=True):
    parts = graphs()
    starts = np.cumsum([0, 3, 5])
    return GraphData(
        torch.cat([g["edge_index"] + int(s) for g, s in zip(parts, starts, strict=True)], 1),
        torch.tensor([0] * 3 + [1] * 5 + [2] * 4),
        torch.tensor([0, 1, 0] + [1] * 5 + [2, 0, 1, 0]) if labels else torch.zeros(12).long(),
        torch.zeros(24).long(),
        torch.tensor([1, 0, 0]),
    )


def test_graph_data_with_its_labels():
    def has_triangles(adj, x, mask):
        assert mask.sum(1).sort().values.unique().tolist() in ([3, 4, 5], [3], [4], [5])
        assert x.shape[-1] == 3
        assert torch.equal(x.sum(-1) > 0, mask)  # every node has one of three labels
        rings = (adj @ adj @ adj).diagonal(dim1=1, dim2=2).sum(1) > 0
        return torch.stack([~rings, rings], 1).float()

    report = er.audit(has_triangles, GRAPHS, graph_set(), elements=20)
    assert (report.worst_error, report.upright, report.orbit_mean) == (0, 1, 1)
    without = er.audit(lambda adj: adj.sum((1, 2))[:, None], GRAPHS, graph_set(labels=False), elements=20)
    assert without.worst_error == 0
    with pytest.raises(ErlangenError, match=r"Symmetric\(4\) permutes 4"):
        er.audit(triangles, er.Symmetry("S4", input="graph", output="invariant"), graph_set())


def test_graph_data_with_labels_of_edges():
    plain = graph_set()
    labels = (torch.arange(24) % 2).long()
    coloured = GraphData(plain.edge_index, plain.batch, plain.node_labels, labels, plain.y)
    with pytest.raises(DataError, match="channels=True"):
        er.audit(triangles, GRAPHS, coloured)
    channels = er.Symmetry("S5", input="graph(channels=True)", output="invariant")
    report = er.audit(lambda adj, x: adj.sum((1, 2)), channels, coloured, elements=10)
    assert report.worst_error == 0
    halves = torch.stack([coloured.edge_counts / 2.0] * 2, 1)
    sums = er.audit(lambda adj, x: adj.sum((1, 2)), channels, coloured, halves, elements=10)
    assert sums.upright == 0  # half of the edges of each ring have either label


# --- loaders and data sets --------------------------------------------------------------------------------------------
X = torch.randn(11, 4, 3, generator=GENERATOR)
Y = (X.norm(dim=-1).mean(1) > 1.6).long()


class Bag(Dataset):
    def __init__(self, entries):
        self.entries = entries

    def __len__(self):
        return len(self.entries)

    def __getitem__(self, i):
        return self.entries[i]


def net(pos):
    return torch.stack([pos[..., 0].mean(1), pos.norm(dim=-1).mean(1) - 1.6], 1)


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(TensorDataset(X, Y), batch_size=4),
        TensorDataset(X, Y),
        DataLoader(Bag([{"pixels": x, "label": y} for x, y in zip(X, Y, strict=True)]), batch_size=4),
        Bag([(x.numpy(), int(y)) for x, y in zip(X, Y, strict=True)]),
    ],
    ids=["pairs", "a data set", "dicts", "arrays"],
)
def test_loaders_hold_labels(loader):
    symmetry = TURNS
    model = net
    if isinstance(getattr(loader, "dataset", None), Bag):
        symmetry, model = (
            er.Symmetry("SO(3)", input={"pixels": "points"}, output="invariant"),
            lambda pixels: net(pixels),
        )
    report = er.audit(model, symmetry, loader, elements=ELEMENTS.float())
    plain = er.audit(net, TURNS, X, Y, elements=ELEMENTS.float())
    assert torch.allclose(report.errors, plain.errors, atol=1e-6)
    assert torch.equal(report.scores, plain.scores)


def test_other_loaders():
    alone = er.audit(net, TURNS, DataLoader(X, batch_size=5), elements=ELEMENTS.float())
    assert alone.scores is None
    assert alone.errors.shape == (9, 11)
    uneven = DataLoader(Bag([(c, torch.zeros(2)) for c in CLOUDS]), batch_size=1)
    assert torch.allclose(er.audit(spread, TURNS, uneven, elements=ELEMENTS).errors, one_by_one(spread, TURNS, CLOUDS))
    with pytest.raises(DataError, match="holds labels, too"):
        er.audit(net, TURNS, TensorDataset(X, Y), Y)
    with pytest.raises(DataError, match="without samples"):
        er.audit(net, TURNS, Bag([]))

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            while True:
                yield X[0]

    with pytest.raises(DataError, match="islice"):
        er.audit(net, TURNS, DataLoader(Stream()))


# --- the other verbs --------------------------------------------------------------------------------------------------
def test_discover_takes_what_audit_takes():
    candidates = [TURNS, er.Symmetry("SE(3)", input="points", output="invariant")]

    def lengths(pos):
        return pos.norm(dim=-1).mean(1, keepdim=True)

    expected = [(f.symmetry.group.name, f.holds) for f in er.discover(lengths, candidates, X)]
    for x in (X.numpy(), X.tolist(), list(X), DataLoader(X, batch_size=3, shuffle=True), [c[:3] for c in X]):
        assert [(f.symmetry.group.name, f.holds) for f in er.discover(lengths, candidates, x)] == expected
    v = torch.randn(200, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    turns = [er.Symmetry("SO(3)", input="vectors", output="invariant")]
    norm = v.norm(dim=1, keepdim=True)
    plain = er.discover(data=(v, norm), candidates=turns)
    for data in (
        (v.numpy(), norm.numpy()),
        (v.numpy(), norm.tolist()),
        DataLoader(TensorDataset(v, norm), batch_size=7),
    ):
        assert er.discover(data=data, candidates=turns)[0].cost == pytest.approx(plain[0].cost, rel=1e-4, abs=1e-7)
    with pytest.raises(DataError, match="without targets"):
        er.discover(data=DataLoader(v), candidates=turns)
    with pytest.raises(DataError, match="different size"):
        er.discover(data=(CLOUDS * 5, torch.rand(25, 1)), candidates=turns)


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(3, 1)


def weights(x, y=None, **options):
    model = linear()
    er.fit(model, x, y, loss=nn.functional.mse_loss, epochs=2, lr=0.1, **options)
    return model.weight.detach()


def test_fit_takes_what_audit_takes():
    v, t = X[:, 0], X[:, 1, :1]
    expected = weights(v, t, validation=(v, t))
    for pair in (
        (v.numpy(), t.numpy()),
        (v.double().numpy(), t.double().numpy()),
        (v.tolist(), t.tolist()),
        (list(v), list(t)),
        (DataLoader(TensorDataset(v, t), batch_size=3),),
        (TensorDataset(v, t),),
    ):
        found = weights(*pair, validation=pair if len(pair) == 2 else pair[0])
        assert torch.allclose(found, expected, atol=1e-7)
    with pytest.raises(DataError, match="without targets"):
        weights(v)
    with pytest.raises(DataError, match="lengths"):
        weights(v, t[:3].tolist())


class Masked(nn.Module):
    """The mean over rows that exist, then a line."""

    def __init__(self, masked=True):
        super().__init__()
        torch.manual_seed(0)
        self.line = nn.Linear(3, 1).double()

    def forward(self, pos, mask):
        assert bool((pos[~mask] == 0).all())
        return self.line((pos * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


def test_fit_on_sets_of_different_size_gives_the_weights_of_their_means():
    means, targets = torch.stack([c.mean(0) for c in CLOUDS]), torch.rand(5, 1, dtype=torch.float64)
    model, plain = Masked(), Masked().line
    er.fit(model, CLOUDS, targets, loss=nn.functional.mse_loss, epochs=3, lr=0.1, validation=(CLOUDS, targets))
    er.fit(plain, means, targets, loss=nn.functional.mse_loss, epochs=3, lr=0.1, validation=(means, targets))
    assert torch.allclose(model.line.weight, plain.weight, atol=1e-12)
    augment = er.augment(er.Symmetry("SO(3)", input="points", output="invariant"))
    er.fit(model, CLOUDS, targets, loss=nn.functional.mse_loss, epochs=1, transform=augment)
    with pytest.raises(ModelError, match="argument mask"):
        er.fit(linear().double(), CLOUDS, targets, loss=nn.functional.mse_loss, epochs=1)


def test_fit_calls_models_of_several_arguments():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.line = linear()

        def forward(self, pos, scale):
            return self.line(pos) * scale

    v, t, ones = X[:, 0], X[:, 1, :1], np.ones((11, 1), np.float32)
    for x in ((v, ones), {"pos": v, "scale": ones}):
        model = Two()
        er.fit(model, x, t, loss=nn.functional.mse_loss, epochs=2, lr=0.1)
        assert torch.allclose(model.line.weight, weights(v, t), atol=1e-7)


def test_augment_takes_what_audit_takes():
    augment = er.augment(ARROWS)

    def seeded():
        return torch.Generator().manual_seed(0)

    x, y = augment(X, X, generator=seeded())
    assert torch.equal(x, y)
    for form in (X.numpy(), X.tolist()):
        moved = augment(form, form, generator=seeded())
        assert torch.allclose(moved[0], x)
        assert torch.allclose(moved[1], y)
    each, targets = augment(list(X), list(X), generator=seeded())
    assert torch.allclose(torch.stack(each), x, atol=1e-6)
    assert torch.allclose(targets, y, atol=1e-6)
    moved = augment(CLOUDS, generator=seeded())
    assert [len(m) for m in moved] == [len(c) for c in CLOUDS]
    assert all(torch.allclose(torch.cdist(m, m), torch.cdist(c, c)) for m, c in zip(moved, CLOUDS, strict=True))
    assert not torch.allclose(moved[0], CLOUDS[0])
    scores = er.Symmetry(
        "Flip", input="image", output=er.actions.Custom(lambda g, y: y.flip(-1), labels=lambda g, y: y + g)
    )
    g = er.augment(scores, elements=torch.tensor([1]))
    assert g(torch.rand(2, 1, 4, 4), [5, 6])[1].tolist() == [6, 7]


# --- functions of other libraries -------------------------------------------------------------------------------------
def test_functions_of_jax():
    jnp = pytest.importorskip("jax.numpy")
    jax = pytest.importorskip("jax")

    @jax.jit
    def model(pos):
        return jnp.stack([jnp.square(pos[..., 0]).mean(-1), jnp.linalg.norm(pos, axis=-1).mean(-1)], -1)

    report = er.audit(model, TURNS, jnp.asarray(X.numpy()), elements=ELEMENTS.float())
    assert torch.allclose(report.errors, one_by_one(spread, TURNS, X, ELEMENTS.float()), atol=1e-5)


def test_functions_of_a_library_that_knows_arrays_alone():
    """As TensorFlow: takes what has `__array__`, refuses torch's tensors with an error of its own, answers by DLPack."""

    class Refused(Exception):
        pass

    def model(pos):
        if isinstance(pos, torch.Tensor):
            raise Refused("a tensor of another library")
        return ByDlpack(spread(torch.from_numpy(np.asarray(pos).copy())))

    report = er.audit(model, TURNS, ByDlpack(X), elements=ELEMENTS.float())
    assert torch.allclose(report.errors, one_by_one(spread, TURNS, X, ELEMENTS.float()), atol=1e-6)
