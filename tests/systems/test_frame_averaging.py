"""Frame averaging: the network of latent frames against a slow loop, graphs by brute force, local frames."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from erlangen.data import rook_graph
from erlangen.enforce import symmetrize
from erlangen.errors import (
    DegenerateFrameError,
    DegenerateFrameWarning,
    DtypeError,
    ErlangenError,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
)
from erlangen.groups import SE, SO, E
from erlangen.measure import equivariance_error
from erlangen.nn import CentredMover, MessagePassing, PointNet
from erlangen.simulate import charges_ahead, drifted
from erlangen.survey import Run
from erlangen.symmetry import Symmetry
from erlangen.systems.points.frame_averaging import FlatMLP, FrameGNN, Lines, LocalFrames
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


def net(layers: int = 3, width: int = 9) -> MessagePassing:
    return MessagePassing(6, 3, width, layers=layers, edge_features=1, generator=seeded()).double()


def systems(count: int = 4, nodes: int = 5) -> dict[str, Tensor]:
    charges = randn(count, nodes, 1, seed=2)
    return {"pos": randn(count, nodes, 3), "vel": randn(count, nodes, 3, seed=1), "edge_attr": _products(charges)}


def _products(charges: Tensor) -> Tensor:
    return (charges @ charges.mT)[..., None]


def frame_gnn() -> tuple[nn.Module, Tensor | dict[str, Tensor], dict[str, list[str]]]:
    """Frames take a batch, and look at values; the modes that compile are tested below."""
    single = {key: value.float() for key, value in systems().items()}
    return FrameGNN(net()).float(), single, {"skip": ["vmap", "compile"]}


def local_frames() -> tuple[nn.Module, Tensor, dict[str, list[str]]]:
    """Neighbours depend on values."""
    return LocalFrames(PointNet(3, 3, 4, generator=seeded()), 6), randn(3, 12, 3).float(), {"skip": ["vmap", "compile"]}


LAYERS = {"FrameGNN": frame_gnn, "LocalFrames": local_frames}


# --- latent frames ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("group", [E(3), SE(3)])
def test_contract(group: E | SE) -> None:
    ran = check_layer(FrameGNN(net(), group), systems(), skip=["dtype", "vmap"], tol=1e-12)  # frames take a batch
    assert "compile" in ran
    single = {key: value.float() for key, value in systems().items()}
    check_layer(FrameGNN(net(), group).float(), single, skip=["vmap", "compile"])


@pytest.mark.parametrize("group", [E(3), SE(3)])
def test_a_loop_gives_the_same(group: E | SE) -> None:
    """One system at a time, one frame element at a time, as the paper writes it."""
    model, x = FrameGNN(net(), group), systems(2)
    for index, out in enumerate(model(x)):
        pos, vel, attr = (x[key][index] for key in ("pos", "vel", "edge_attr"))
        close(out, _slow(model.net, pos, vel, attr, proper=isinstance(group, SE)), 1e-10)


def _axes(rows: Tensor, proper: bool) -> list[Tensor]:
    vectors = torch.linalg.eigh(rows.mT @ rows).eigenvectors
    every = [vectors * torch.tensor(signs, dtype=rows.dtype) for signs in itertools.product((1.0, -1.0), repeat=3)]
    return [axes for axes in every if not proper or float(torch.linalg.det(axes)) > 0]


def _slow(plain: MessagePassing, pos: Tensor, vel: Tensor, attr: Tensor, *, proper: bool) -> Tensor:
    edges = torch.tensor([(i, j) for i in range(len(pos)) for j in range(len(pos)) if i != j]).T
    features, centre = attr[edges[0], edges[1]], pos.mean(0)
    frames = _axes(torch.cat([pos - centre, vel]).detach(), proper)
    hs = [plain.embed(torch.cat([(pos - centre) @ R, vel @ R], -1)) for R in frames]
    for depth, layer in enumerate(plain.layers):
        hs = [layer(h, edges, features) for h in hs]
        if depth + 1 < len(plain.layers):
            back = [h.reshape(len(pos), -1, 3) @ R.mT for h, R in zip(hs, frames, strict=True)]
            mean = torch.stack(back).mean(0)
            rows = mean.reshape(-1, 3).detach()
            frames = _axes(rows - rows.mean(0), proper)
            hs = [(mean @ R).reshape(len(pos), -1) for R in frames]
    moves = [plain.decode(h) @ R.mT for h, R in zip(hs, frames, strict=True)]
    return pos + torch.stack(moves).mean(0)


def test_one_layer_is_symmetrize() -> None:
    """Without a second layer nothing is framed anew, so the library's own frame average is the same."""
    model, x = FrameGNN(net(layers=1)), systems()
    close(model(x), symmetrize(CentredMover(model.net), system.MOTIONS)(x), 1e-12)


def test_latent_frames_matter() -> None:
    model, x = FrameGNN(net(layers=2)), systems()
    outer = symmetrize(CentredMover(model.net), system.MOTIONS)
    assert float((model(x) - outer(x)).detach().norm()) > 1e-3


def test_mirror_images_stay_apart_only_under_proper_motions() -> None:
    x = systems()
    mirror = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    mirrored = {"pos": x["pos"] * mirror, "vel": x["vel"] * mirror, "edge_attr": x["edge_attr"]}
    close(FrameGNN(net())(mirrored), FrameGNN(net())(x) * mirror, 1e-12)
    model = FrameGNN(net(), SE(3))
    assert float((model(mirrored) - model(x) * mirror).detach().norm()) > 1e-3


@pytest.mark.parametrize("nodes", [2, 5, 7])
def test_order_of_particles_does_not_matter(nodes: int) -> None:
    x, order = systems(nodes=nodes), torch.randperm(nodes, generator=seeded())
    moved = {"pos": x["pos"][:, order], "vel": x["vel"][:, order], "edge_attr": x["edge_attr"][:, order][:, :, order]}
    close(FrameGNN(net())(moved), FrameGNN(net())(x)[:, order], 1e-10)


def test_far_from_the_origin_in_single_precision() -> None:
    model, x = FrameGNN(net()).float(), {key: value.float() for key, value in systems().items()}
    far = {**x, "pos": x["pos"] + 1e4}
    exact = {key: value.double() for key, value in far.items()}
    close(model(far) - 1e4, FrameGNN(net())(exact) - 1e4, 2e-3)


def test_gradients_of_parameters() -> None:
    """Frames of the input are constants of the parameters, so with one layer differences agree with gradients."""
    model, x = FrameGNN(net(layers=1, width=3)), systems(2, 3)
    names = [name for name, _ in model.named_parameters()]

    def call(*values: Tensor) -> Tensor:
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, [p.detach().requires_grad_() for p in model.parameters()])


def test_without_edge_features() -> None:
    x = systems()
    plain = MessagePassing(6, 3, 6, layers=2, generator=seeded()).double()
    model = FrameGNN(plain)
    assert model({"pos": x["pos"], "vel": x["vel"]}).shape == (4, 5, 3)
    assert float(equivariance_error(model, None, {"pos": x["pos"], "vel": x["vel"]}, elements=20, reduce="max")) < 1e-12


SQUARE = torch.tensor([[1.0, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]], dtype=torch.float64)[None]


def square() -> dict[str, Tensor]:
    return {"pos": SQUARE, "vel": torch.zeros_like(SQUARE), "edge_attr": torch.ones(1, 4, 4, 1, dtype=torch.float64)}


def test_ties_are_reported() -> None:
    with pytest.warns(DegenerateFrameWarning, match=r"system 0 does not determine its frame: eigenvalues .*'4', '4'"):
        FrameGNN(net())(square())
    with pytest.raises(DegenerateFrameError, match="relative gap"):
        FrameGNN(net(), on_degenerate="error")(square())
    assert bool(FrameGNN(net(), on_degenerate="allow")(square()).isfinite().all())


def changed(key: str, value: Tensor) -> dict[str, Tensor]:
    return {**systems(), key: value}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: FrameGNN(net())({**square(), "pos": 0 * SQUARE + 3}), DegenerateFrameError, "zero covariance"),
        (lambda: FrameGNN(net())(changed("vel", systems()["vel"] * math.nan)), NotFiniteError, "vel: system 0"),
        (lambda: FrameGNN(net())(changed("vel", randn(4, 5, 2))), ShapeError, r"\(4, 5, 2\)"),
        (lambda: FrameGNN(net())({"pos": randn(4, 5, 3)}), ShapeError, "pass a dict of pos and vel"),
        (lambda: FrameGNN(net())(randn(4, 5, 3)), ShapeError, "x is Tensor"),
        (lambda: FlatMLP(5)({"x": randn(2, 5, 5)}), ShapeError, "adj is missing"),
        (lambda: FlatMLP(5)({"adj": randn(5, 5)}), ShapeError, "of shape .5, 5."),
        (lambda: LocalFrames(PointNet(3, 3, 4), 2)(torch.ones(1, 7, 3).long()), DtypeError, "x has dtype torch.int64"),
        (lambda: FrameGNN(net())(systems(nodes=5) | {"edge_attr": randn(4, 4, 4, 1)}), ShapeError, "edge_attr"),
        (lambda: FrameGNN(net())({"pos": randn(4, 0, 3), "vel": randn(4, 0, 3)}), ShapeError, "N at least 1"),
        (lambda: FrameGNN(net(width=8)), ErlangenError, "has width 8"),
        (lambda: FrameGNN(MessagePassing(5, 3, 9)), ErlangenError, "reads 5 numbers"),
        (lambda: FrameGNN(net(), E(2)), ErlangenError, r"give E\(3\) or SE\(3\)"),
        (lambda: FrameGNN(net(), SO(3)), ErlangenError, r"give E\(3\) or SE\(3\)"),
        (lambda: FrameGNN(net(), on_degenerate="pass"), UnknownNameError, "'warn', 'error' or 'allow'"),
        (lambda: LocalFrames(PointNet(3, 3, 4), 8)(torch.ones(2, 7, 3)), ShapeError, "N at least 8"),
        (lambda: LocalFrames(PointNet(3, 3, 4), 1), ErlangenError, "neighbours = 1: give an integer of at least 2"),
        (lambda: LocalFrames(PointNet(3, 3, 4), 2)(torch.full((1, 7, 3), math.nan)), NotFiniteError, "x has 21"),
        (lambda: FlatMLP(5)({"adj": torch.ones(1, 4, 4)}), ShapeError, "of shape .1, 4, 4."),
    ],
)
def test_bad_input(call, error: type[ErlangenError], message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        call()


def test_nan_names_the_system() -> None:
    x = systems()
    x["pos"][2, 1] = math.inf
    with pytest.raises(NotFiniteError, match="pos: system 2"):
        FrameGNN(net())(x)


# --- particles and rivals --------------------------------------------------------------------------------------------
RUN = Run("smoke", budget=system.BUDGETS["smoke"])


def test_rivals_are_what_they_are_called() -> None:
    x = {key: value.float() for key, value in charges_ahead(30, 0)[0].items()}
    torch.manual_seed(0)
    models = {name: rival.make() for name, rival in system.charge_rivals(RUN).items() if rival.trains}
    errors = {name: float(equivariance_error(model, system.MOTIONS, x, elements=20)) for name, model in models.items()}
    exact = {name for name, error in errors.items() if error < 1e-5}
    assert exact == {system.OURS, system.EQUIVARIANT}
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
    found = system.main_lines(lines(vectors))
    unit = vectors / vectors.norm(dim=-1, keepdim=True)
    close((found * unit).sum(-1).abs(), torch.ones(5, 7), 1e-12)
    other = randn(5, 7, 3, seed=1)
    other = other / other.norm(dim=-1, keepdim=True)
    close(system.line_loss(lines(vectors), other), 1 - (unit * other).sum(-1).square().mean(), 1e-12)


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
