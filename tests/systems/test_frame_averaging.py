"""Frame averaging: the network of latent frames against a slow loop, graphs by brute force, local frames."""

import math

import pytest
import torch
from torch import Tensor, nn

from erlangen.data import planar_pairs, rook_graph
from erlangen.enforce import symmetrize
from erlangen.errors import (
    DtypeError,
    ErlangenError,
    NotFiniteError,
    ShapeError,
)
from erlangen.measure import equivariance_error
from erlangen.nn import MessagePassing, PointNet
from erlangen.simulate import charges_ahead, drifted
from erlangen.survey import Run
from erlangen.symmetry import Symmetry
from erlangen.systems.points.frame_averaging import FlatMLP, FrameGNN, Lines, LocalFrames, _graphs, _normals
from erlangen.systems.points.frame_averaging import experiment as system
from erlangen.systems.points.frame_averaging.method import patches
from erlangen.systems.points.frame_averaging.rivals import Family, separation
from erlangen.testing import check_layer


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=seeded(seed), dtype=torch.float64)


def close(a: Tensor, b: Tensor, tol: float) -> None:
    torch.testing.assert_close(a.double(), b.double(), rtol=tol, atol=tol * float(b.detach().abs().max()))


def systems(count: int = 4, nodes: int = 5) -> dict[str, Tensor]:
    charges = randn(count, nodes, 1, seed=2)
    return {"pos": randn(count, nodes, 3), "vel": randn(count, nodes, 3, seed=1), "edge_attr": _products(charges)}


def _products(charges: Tensor) -> Tensor:
    return (charges @ charges.mT)[..., None]


def frame_gnn() -> tuple[nn.Module, Tensor | dict[str, Tensor], dict[str, list[str]]]:
    """Frames take a batch, and look at values; the modes that compile are tested below."""
    single = {key: value.float() for key, value in systems().items()}
    model = FrameGNN(MessagePassing(6, 3, 9, layers=2, edge_features=2, generator=seeded()))
    return model, single, {"skip": ["vmap", "compile"]}


def local_frames() -> tuple[nn.Module, Tensor, dict[str, list[str]]]:
    """Neighbours depend on values."""
    return LocalFrames(PointNet(3, 3, 4, generator=seeded()), 6), randn(3, 12, 3).float(), {"skip": ["vmap", "compile"]}


LAYERS = {"FrameGNN": frame_gnn, "LocalFrames": local_frames}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: FlatMLP(5)({"x": randn(2, 5, 5)}), ShapeError, "adj is missing"),
        (lambda: FlatMLP(5)({"adj": randn(5, 5)}), ShapeError, "of shape .5, 5."),
        (lambda: LocalFrames(PointNet(3, 3, 4), 2)(torch.ones(1, 7, 3).long()), DtypeError, "x has dtype torch.int64"),
        (lambda: LocalFrames(PointNet(3, 3, 4), 8)(torch.ones(2, 7, 3)), ShapeError, "N at least 8"),
        (lambda: LocalFrames(PointNet(3, 3, 4), 1), ErlangenError, "neighbours = 1: give an integer of at least 2"),
        (lambda: LocalFrames(PointNet(3, 3, 4), 2)(torch.full((1, 7, 3), math.nan)), NotFiniteError, "x has 21"),
        (lambda: FlatMLP(5)({"adj": torch.ones(1, 4, 4)}), ShapeError, "of shape .1, 4, 4."),
    ],
)
def test_bad_input(call, error: type[ErlangenError], message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        call()


# --- particles and rivals --------------------------------------------------------------------------------------------
RUN = Run("smoke", budget=system.BUDGETS["smoke"])


def test_rivals_are_what_they_are_called() -> None:
    x = {key: value.float() for key, value in charges_ahead(30, 0)[0].items()}
    torch.manual_seed(0)
    models = {name: rival.make() for name, rival in system.charge_rivals(RUN).items() if rival.trains}
    errors = {name: float(equivariance_error(model, system.MOTIONS, x, elements=20)) for name, model in models.items()}
    exact = {name for name, error in errors.items() if error < 1e-5}
    assert exact == {system.OURS, system.OTHER, system.EQUIVARIANT}
    sizes = [sum(p.numel() for p in model.parameters()) for model in models.values()]
    assert max(sizes) < 1.1 * min(sizes)


def test_random_turns_are_new_in_training_and_fixed_in_evaluation() -> None:
    x = charges_ahead(30, 0)[0]
    torch.manual_seed(0)
    model = system.charge_rivals(RUN)[system.SAMPLED].make()
    with torch.no_grad():
        assert not torch.equal(model(x), model(x))
        model.eval()
        assert torch.equal(model(x), model(x))
        close(model({key: value[:3] for key, value in x.items()}), model(x)[:3], 1e-5)


def test_the_task_is_ten_frames_ahead() -> None:
    """One unit of time: keeping the velocity is a better guess than staying."""
    x, later = charges_ahead(30, 0)
    stay, straight = (float((drifted(x, speed) - later).square().mean()) for speed in (0.0, 1.0))
    assert straight < 0.7 * stay


# --- graphs ----------------------------------------------------------------------------------------------------------
def test_one_name_is_not_enough_for_the_rook() -> None:
    """All nodes of a strongly regular graph see the same colours when one node is named; two names tell them apart."""
    families = [Family("strongly regular", 16, named) for named in (1, 2)]
    assert [separation(family, "FA-GIN+ID", 0)["pairs not separated"] for family in families] == [1, 0]
    assert float(rook_graph(4).sum()) == 96


def test_sampled_orders_break_ties_alone() -> None:
    """Sorted graphs of a pair are the same up to ties, and a network of them has one answer for every numbering."""
    adj = planar_pairs(6, 20, generator=seeded()).flatten(0, 1)
    order = torch.randperm(20, generator=seeded(1))
    graphs, again = _graphs.sorted_graphs(adj), _graphs.sorted_graphs(adj[:, order][:, :, order])
    assert torch.equal(graphs["tie"], again["tie"])
    degree = graphs["adj"].sum(-1)
    assert torch.equal(degree, again["adj"].sum(-1))
    assert torch.equal(degree, degree.gather(1, graphs["tie"]))  # nodes of a tie look alike
    torch.manual_seed(0)
    model = _graphs.SampledOrders(_graphs.ClassGIN(8, named=True)).train()
    assert not torch.equal(model(graphs), model(graphs))
    assert torch.equal(model.eval()(graphs), model(graphs))
    drawn = model._ordered(graphs, seeded())
    assert torch.equal(drawn.sum(-1), degree)


def test_one_ring_or_two_look_alike_to_gin() -> None:
    torch.manual_seed(0)
    out = _graphs.ClassGIN(8, named=False)({"adj": planar_pairs(6, 20, generator=seeded()).flatten(0, 1)})
    close(out[::2], out[1::2], 1e-5)


# --- normals ---------------------------------------------------------------------------------------------------------
def test_local_frames_keep_the_contract() -> None:
    model = LocalFrames(PointNet(3, 3, 4, generator=seeded()), 6).double()
    check_layer(model, randn(3, 12, 3), skip=["dtype", "vmap", "compile"], tol=1e-12)  # neighbours depend on values
    order = torch.randperm(12, generator=seeded())
    close(model(randn(3, 12, 3)[:, order]), model(randn(3, 12, 3))[:, order], 1e-12)


def test_patches_are_the_nearest_points() -> None:
    x = randn(2, 9, 3)
    found = patches(x, 4)
    assert float(found[:, :, 0].abs().max()) == 0
    expected = torch.cdist(x, x).sort(-1).values[..., :4]
    close(found.norm(dim=-1), expected, 1e-7)


def test_lines_have_no_sign_and_are_found_again() -> None:
    vectors = randn(5, 7, 3)
    lines = Lines(nn.Identity())
    assert torch.equal(lines(vectors), lines(-vectors))
    found = _normals.main_lines(lines(vectors))
    unit = vectors / vectors.norm(dim=-1, keepdim=True)
    close((found * unit).sum(-1).abs(), torch.ones(5, 7), 1e-12)
    other = randn(5, 7, 3, seed=1)
    other = other / other.norm(dim=-1, keepdim=True)
    close(_normals.line_loss(lines(vectors), other), 1 - (unit * other).sum(-1).square().mean(), 1e-12)


def test_averages_of_lines_do_not_cancel() -> None:
    """A flat patch is its own mirror image: the average of vectors across it vanishes, that of lines does not."""
    flat = randn(1, 16, 3) * torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)

    def across(x: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0, 0.0], dtype=x.dtype).expand(len(x), 3)  # the axis of least extent

    vectors = Symmetry("O(3)", input="vectors", output="vectors")
    lines = Symmetry("O(3)", input="vectors", output="spd")
    assert float(symmetrize(across, vectors)(flat).abs().max()) < 1e-12
    found = symmetrize(Lines(_Module(across)), lines)(flat)
    close(found, torch.diag(torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))[None], 1e-12)


class _Module(nn.Module):
    def __init__(self, call) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)
