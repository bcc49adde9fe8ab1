"""Spherical convolutions: filters by hand, what directions tell that nothing else does, gradients, baselines, bad input."""

import math

import pytest
import torch
from torch import Tensor, nn

from erlangen.data import backbones
from erlangen.errors import DataError, DegenerateFrameError, ErlangenError, NotFiniteError, ShapeError, UnknownNameError
from erlangen.survey import Sizes
from erlangen.systems.molecules.s_gcn import SGCN, SphericalConvolution, padded, residue_frames, residue_graph
from erlangen.systems.molecules.s_gcn._properties import batch, network, output, zinc_finger
from erlangen.systems.molecules.s_gcn.data import (
    FOLDS,
    NATIVE,
    chains,
    drawn,
    five_atoms,
    graph_of,
    samples_of,
    smoothed,
)
from erlangen.systems.molecules.s_gcn.experiment import SHARE, measure, squared_error, trimmed, widened
from erlangen.systems.molecules.s_gcn.method import directions
from erlangen.systems.molecules.s_gcn.rivals import ContactGCN, DistanceGNN, MeanScore


def two_graphs() -> dict[str, Tensor]:
    return batch([graph_of(*zinc_finger(k)) for k in (0, 1)], torch.float32)


def layer() -> tuple[nn.Module, dict[str, Tensor], dict[str, list[str]]]:
    """In a batch of none there are no neighbours to find the number of; the rest of the contract holds."""
    return network(3, torch.float32), two_graphs(), {}


LAYERS = {"SGCN": layer}


# --- filters ---------------------------------------------------------------------------------------------------------
def test_a_convolution_is_the_sum_it_says() -> None:
    """Node by node, harmonics of degree 1 by their closed form."""
    x = batch([graph_of(*zinc_finger())])
    conv = SphericalConvolution(23, 4, 2).double()
    Y = directions(x["pos"], x["neighbors"], x["mask"], 2)
    found = conv(x["features"], Y, x["neighbors"].clamp(min=0))[0]
    pos, h = x["pos"][0], x["features"][0]
    for i in (0, 7, 20):
        total = h[i] @ conv.own + conv.bias
        e1 = nn.functional.normalize(pos[i, 2] - pos[i, 1], dim=0)
        e3 = nn.functional.normalize(torch.linalg.cross(e1, pos[i, 0] - pos[i, 1]), dim=0)
        frame = torch.stack([e1, torch.linalg.cross(e3, e1), e3])
        for j in x["neighbors"][0, i].tolist():
            if j >= 0:
                w = frame @ nn.functional.normalize(pos[j, 1] - pos[i, 1], dim=0)
                harmonics = [math.sqrt(1 / (4 * math.pi)), *(math.sqrt(3 / (4 * math.pi)) * w)]
                total = total + sum(y * (h[j] @ W) for y, W in zip(harmonics, conv.filters, strict=True))
        torch.testing.assert_close(found[i], total)


def test_filters_start_apart_or_as_one_matrix() -> None:
    """Variances of Xavier's rule: of each matrix for itself, or of all of them on top of each other."""
    torch.manual_seed(0)
    for start, inputs in (("each", 40), ("joint", 25 * 40)):
        layer = SphericalConvolution(40, 60, 5, start=start)
        assert float(layer.filters.detach().var()) == pytest.approx(2 / (inputs + 60), rel=0.03)
        assert float(layer.own.detach().var()) == pytest.approx(2 / 100, rel=0.1)
    with pytest.raises(UnknownNameError, match="start = 'both'; give each or joint"):
        SphericalConvolution(40, 60, 5, start="both")  # pyright: ignore[reportArgumentType]


def test_a_node_without_neighbours_has_its_own_part() -> None:
    conv = SphericalConvolution(3, 2, 5).double()
    h = torch.randn(1, 4, 3, dtype=torch.float64)
    none = torch.full((1, 4, 1), -1)
    pos = torch.randn(1, 4, 3, 3, dtype=torch.float64)
    Y = directions(pos, none, torch.ones(1, 4, dtype=torch.bool), 5)
    torch.testing.assert_close(conv(h, Y, none.clamp(min=0)), h @ conv.own + conv.bias)


def test_directions_tell_octants_and_nothing_else_does() -> None:
    """One neighbour for each node, constant input: order 1 cannot beat log 8, order 2 comes close to 0."""
    g = torch.Generator().manual_seed(0)
    w = torch.randn(800, 3, generator=g, dtype=torch.float64)
    w = w[(w.abs() > 0.15).all(1)]
    octant = ((w > 0) * torch.tensor([1, 2, 4])).sum(1)
    w = torch.cat([w[octant == k][:40] for k in range(8)])
    octant = torch.arange(8).repeat_interleave(40)
    n = len(w)
    # Frames are the unit matrix: C along x, N in the plane of x and y.
    pos = torch.zeros(1, 2 * n, 3, 3, dtype=torch.float64)
    pos[0, n:, 1] = w
    pos[..., 2, :] = pos[..., 1, :] + torch.tensor([1.0, 0, 0], dtype=torch.float64)
    pos[..., 0, :] = pos[..., 1, :] + torch.tensor([0.0, 1, 0], dtype=torch.float64)
    near = torch.cat([torch.arange(n, 2 * n), torch.full((n,), -1)])[None, :, None]
    h, losses = torch.ones(1, 2 * n, 1, dtype=torch.float64), {}
    for order in (1, 2):
        torch.manual_seed(0)
        conv = SphericalConvolution(1, 8, order).double()
        Y = directions(pos, near, torch.ones(1, 2 * n, dtype=torch.bool), order)
        optimizer = torch.optim.Adam(conv.parameters(), lr=1.0)
        for _ in range(300):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(conv(h, Y, near.clamp(min=0))[0, :n], octant)
            loss.backward()
            optimizer.step()
        losses[order] = float(loss.detach())
    assert losses[1] > math.log(8) - 1e-9
    assert losses[1] < math.log(8) + 0.05
    assert losses[2] < 0.02


def test_gradients_reach_the_coordinates() -> None:
    x, model = batch([graph_of(*zinc_finger())]), network(3)
    few = {k: v[:, :6] for k, v in x.items()} | {"neighbors": x["neighbors"][:, :6].clamp(max=5)}

    def scores(pos: Tensor) -> Tensor:
        return model(few | {"pos": pos})

    assert torch.autograd.gradcheck(scores, few["pos"].clone().requires_grad_())


def test_padding_changes_nothing() -> None:
    """A protein alone and beside a larger one, and what training takes off and puts back."""
    graphs = [graph_of(*zinc_finger(k)) for k in (0, 2)]
    model, n = network(5), len(graphs[0].pos)
    both, alone = model(batch(graphs)), model(batch(graphs[:1]))
    torch.testing.assert_close(both[0, :n], alone[0, :n])
    assert float(both[0, n:].detach().abs().sum()) == 0
    wide = padded(graphs, rows=90, most=40)
    torch.testing.assert_close(model(trimmed(wide)), both)


def test_batches_are_normalised_over_real_residues() -> None:
    """In training mode a padded batch gives what the same residues give without padding."""
    graphs = [graph_of(*zinc_finger())]
    a, b = (network(2).train() for _ in range(2))
    for model in (a, b):
        model.dropout.p = 0.0
    n = len(graphs[0].pos)
    torch.testing.assert_close(a(padded(graphs, rows=60))[:, :n], b(padded(graphs)))
    torch.testing.assert_close(a.norms["1"].running_mean, b.norms["1"].running_mean)


def test_the_radial_variant_weighs_by_area() -> None:
    """Areas count by their share of all areas of a residue: equal ones are no plain sum, and their unit is nothing."""
    x = batch([graph_of(*zinc_finger())])
    equal = x | {"area": (x["neighbors"] >= 0).double()}
    radial = network(2)
    radial.variant = "r"
    assert float((radial(equal) - network(2)(equal)).detach().abs().max()) > 1e-4
    scaled = x | {"area": 7 * x["area"]}
    torch.testing.assert_close(radial(scaled), radial(x))


def test_a_gap_in_the_chain_has_no_bond() -> None:
    """Cut and drawn apart, the two sides have no edge; whole, they are joined even where nothing touches."""
    kind, pos = zinc_finger()
    whole = graph_of(kind, pos)
    assert bool(whole.edges.diagonal(1).all())
    apart = pos.clone()
    apart[10:] += 100.0
    cut = graph_of(kind, apart)
    assert not bool(cut.edges[:10, 10:].any())
    assert torch.equal(cut.edges, cut.edges.mT)


def test_inputs_are_what_they_say() -> None:
    graph = graph_of(*zinc_finger())
    assert graph.features.shape[1] == 23
    torch.testing.assert_close(graph.features[:, :20].sum(1), torch.ones(len(graph.pos), dtype=torch.float64))
    torch.testing.assert_close(graph.features[:, 20:22].sum(0), torch.ones(2, dtype=torch.float64))
    assert float(graph.features[:, 22].min()) == 1


# --- rivals and data -------------------------------------------------------------------------------------------------
def test_rivals_have_as_many_parameters() -> None:
    def count(model: nn.Module) -> int:
        return sum(p.numel() for p in model.parameters())

    ours = count(SGCN(5))
    for model in (widened(), DistanceGNN(), ContactGCN(SHARE)):
        assert abs(count(model) / ours - 1) < 0.1


def test_the_baseline_sees_how_far_apart_in_the_chain() -> None:
    x = two_graphs()
    six, one = ContactGCN(0.2), ContactGCN(0.2, channels="last")
    other = x | {"separation": x["separation"] + 1}
    assert float((six(other) - six(x)).detach().abs().max()) > 0
    assert torch.equal(one(other), one(x))


def test_distances_do_not_see_mirrors() -> None:
    x, model = two_graphs(), DistanceGNN().eval()
    torch.testing.assert_close(model(x | {"pos": -x["pos"]}), model(x))


def test_means_are_means() -> None:
    x = two_graphs()
    score = torch.rand(x["mask"].shape, generator=torch.Generator().manual_seed(0)) * x["mask"]
    y = {"score": score, "mask": x["mask"]}
    plain, kinds = MeanScore(by_kind=False), MeanScore(by_kind=True)
    plain.learn(x, y)
    kinds.learn(x, y)
    torch.testing.assert_close(plain(x)[x["mask"]], score[x["mask"]].mean().expand(int(x["mask"].sum())))
    assert float(squared_error(kinds(x), y)) < float(squared_error(plain(x), y))


def test_families_do_not_straddle() -> None:
    names = {chain.family for chain in backbones()}
    for fold in FOLDS:
        parts = [set(part) for part in fold]
        assert not parts[0] & parts[1]
        assert not (parts[0] | parts[1]) & parts[2]
        assert set.union(*parts) <= names
    split = drawn(2, Sizes(4, 8, 8), 4)
    for (_, y), families in zip(split, FOLDS[2], strict=True):
        assert {chains()[k].family for k in y["target"].tolist()} <= set(families)


def test_natives_have_the_best_score() -> None:
    found = samples_of(next(k for k, c in enumerate(chains()) if c.family == "zinc finger"), 5, 0)
    assert found[0].kind == NATIVE
    assert float(found[0].score.min()) == 1
    assert len({one.kind for one in found}) == 5
    assert all(float(one.score.mean()) < 1 for one in found[1:])


def test_windows_are_means() -> None:
    score = torch.tensor([0.0, 1, 0, 0, 0, 5], dtype=torch.float64)
    expected = torch.tensor([1 / 3, 1 / 4, 1 / 5, 6 / 5, 5 / 4, 5 / 3], dtype=torch.float64)
    torch.testing.assert_close(smoothed(score), expected)


def test_a_perfect_model_has_no_error_and_all_ranks() -> None:
    split = drawn(2, Sizes(4, 5, 5), 5)
    _, y = split.test

    class Knows(nn.Module):
        def forward(self, x: dict[str, Tensor]) -> Tensor:
            return y["score"]

    row = measure(Knows(), *split.test, torch.Generator())
    assert row["mean squared error"] == 0
    assert row["spearman, each target"] == pytest.approx(1)
    assert row["loss of the selected"] == pytest.approx(0, abs=1e-7)
    assert row["natives first, %"] == 100


# --- bad input -------------------------------------------------------------------------------------------------------
def parts():
    kind, pos = zinc_finger()
    return kind, *five_atoms(kind, pos)


def changed(**other):
    kind, atoms, names, residue = parts()
    return lambda: residue_graph(**({"kind": kind, "atoms": atoms, "names": names, "residue": residue} | other))


def collinear() -> Tensor:
    _, atoms, names, residue = parts()
    atoms = atoms.clone()
    rows = {name: k for k, (name, r) in enumerate(zip(names, residue.tolist(), strict=True)) if r == 3}
    atoms[rows["C"]] = 2 * atoms[rows["CA"]] - atoms[rows["N"]]
    return atoms


def on_top() -> Tensor:
    _, atoms, names, _ = parts()
    first, second, *_ = (k for k, name in enumerate(names) if name == "CA")
    atoms = atoms.clone()
    atoms[second] = atoms[first]
    return atoms


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (changed(kind=torch.full((29,), 20)), DataError, "below 20"),
        (changed(atoms=parts()[1] * torch.nan), NotFiniteError, "atoms has"),
        (changed(atoms=parts()[1][:-1]), ShapeError, "names"),
        (changed(names=tuple("CB" if n == "CA" else n for n in parts()[2])), DataError, "lack N, CA or C"),
        (changed(names=tuple("HB" if n == "CB" else n for n in parts()[2])), DataError, r"\['HB'\]"),
        (changed(atoms=collinear()), DegenerateFrameError, "residues 3 are collinear"),
        (changed(atoms=on_top()), DataError, "two CA"),
        (lambda: graph_of(zinc_finger()[0][:3], zinc_finger()[1][:3]), DataError, "contacts of residues; 5"),
        (lambda: padded([graph_of(*zinc_finger())], rows=5), ShapeError, "29 residues"),
        (lambda: SGCN(11), UnknownNameError, "order = 11"),
        (lambda: SGCN(0), ErlangenError, "order"),
        (lambda: SGCN(3, "t"), UnknownNameError, "plain, s or r"),  # type: ignore[arg-type]
        (lambda: residue_frames(torch.zeros(2, 3, 3, dtype=torch.long)), ErlangenError, "pos"),
        (lambda: DistanceGNN(24), ErlangenError, "square"),
    ],
)
def test_bad_input(build, error: type[ErlangenError], words: str) -> None:
    with pytest.raises(error, match=words):
        build()


def test_scores_of_order_two_differ_for_mirror_images_of_a_batch() -> None:
    x = batch([graph_of(*zinc_finger(k)) for k in (0, 3)])
    model = network(2)
    mirrored = x | {"pos": x["pos"] * torch.tensor([-1.0, 1, 1], dtype=torch.float64)}
    assert float((output(model, mirrored) - output(model, x)).detach()[x["mask"]].abs().max()) > 1e-4
