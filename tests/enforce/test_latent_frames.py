"""The network of latent frames: against a slow loop, its symmetry, degenerate systems, bad input."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from erlangen.enforce import FrameGNN, symmetrize
from erlangen.errors import (
    DegenerateFrameError,
    DegenerateFrameWarning,
    ErlangenError,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
)
from erlangen.groups import SE, SO, E
from erlangen.measure import equivariance_error
from erlangen.nn import CentredMover, MessagePassing
from erlangen.symmetry import Symmetry
from erlangen.testing import check_layer

ACTIONS = {"pos": "points", "vel": "vectors", "edge_attr": "invariant"}
OTHER = {"distances": False, "centred": False, "frame_of": "positions and velocities"}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=seeded(seed), dtype=torch.float64)


def close(a: Tensor, b: Tensor, tol: float) -> None:
    torch.testing.assert_close(a.double(), b.double(), rtol=tol, atol=tol * float(b.detach().abs().max()))


def net(layers: int = 3, width: int = 9, edge_features: int = 2) -> MessagePassing:
    return MessagePassing(6, 3, width, layers=layers, edge_features=edge_features, generator=seeded()).double()


def systems(count: int = 4, nodes: int = 5) -> dict[str, Tensor]:
    charges = randn(count, nodes, 1, seed=2)
    return {"pos": randn(count, nodes, 3), "vel": randn(count, nodes, 3, seed=1), "edge_attr": _products(charges)}


def _products(charges: Tensor) -> Tensor:
    return (charges @ charges.mT)[..., None]


@pytest.mark.parametrize("group", [E(3), SE(3)])
def test_contract(group: E | SE) -> None:
    ran = check_layer(FrameGNN(net(), group), systems(), skip=["dtype", "vmap"], tol=1e-12)  # frames take a batch
    assert "compile" in ran
    single = {key: value.float() for key, value in systems().items()}
    check_layer(FrameGNN(net(), group).float(), single, skip=["vmap", "compile"])


@pytest.mark.parametrize("group", [E(3), SE(3)])
def test_a_loop_gives_the_same(group: E | SE) -> None:
    """One system at a time, one frame element at a time, as the paper writes it."""
    x = systems(2)
    for model in (FrameGNN(net(), group), FrameGNN(net(edge_features=1), group, **OTHER)):
        for index, out in enumerate(model(x)):
            pos, vel, attr = (x[key][index] for key in ("pos", "vel", "edge_attr"))
            close(out, _slow(model, pos, vel, attr, proper=isinstance(group, SE)), 1e-10)


def _axes(rows: Tensor, proper: bool) -> list[Tensor]:
    vectors = torch.linalg.eigh(rows.mT @ rows).eigenvectors
    every = [vectors * torch.tensor(signs, dtype=rows.dtype) for signs in itertools.product((1.0, -1.0), repeat=3)]
    return [axes for axes in every if not proper or float(torch.linalg.det(axes)) > 0]


def _slow(model: FrameGNN, pos: Tensor, vel: Tensor, attr: Tensor, *, proper: bool) -> Tensor:
    plain = model.net
    edges = torch.tensor([(i, j) for i in range(len(pos)) for j in range(len(pos)) if i != j]).T
    features, centre = attr[edges[0], edges[1]], pos.mean(0)
    if model.distances:
        squared = (pos[edges[0]] - pos[edges[1]]).square().sum(-1, keepdim=True)
        features = torch.cat([features, squared], -1)
    framed = [pos - centre] if model.frame_of == "positions" else [pos - centre, vel]
    frames = _axes(torch.cat(framed).detach(), proper)
    hs = [plain.embed(torch.cat([(pos - centre) @ R, vel @ R], -1)) for R in frames]
    for depth, layer in enumerate(plain.layers):
        hs = [layer(h, edges, features) for h in hs]
        if depth + 1 < len(plain.layers):
            back = [h.reshape(len(pos), -1, 3) @ R.mT for h, R in zip(hs, frames, strict=True)]
            mean = torch.stack(back).mean(0)
            rows = mean.reshape(-1, 3)
            rows = rows - rows.mean(0)
            frames = _axes(rows.detach(), proper)
            mean = rows.reshape(mean.shape) if model.centred else mean
            hs = [(mean @ R).reshape(len(pos), -1) for R in frames]
    moves = [plain.decode(h) @ R.mT for h, R in zip(hs, frames, strict=True)]
    return pos + torch.stack(moves).mean(0)


def test_one_layer_is_symmetrize() -> None:
    """Without a second layer nothing is framed anew, so the library's own frame average is the same."""
    model, x = FrameGNN(net(layers=1), frame_of="positions and velocities"), systems()
    around = Symmetry(E(3), input=ACTIONS, output="points")
    close(model(x), symmetrize(CentredMover(model.net, distances=True), around)(x), 1e-12)


def test_latent_frames_matter() -> None:
    model, x = FrameGNN(net(layers=2), frame_of="positions and velocities"), systems()
    outer = symmetrize(CentredMover(model.net, distances=True), Symmetry(E(3), input=ACTIONS, output="points"))
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
    # Two particles do not determine a frame by their positions alone.
    x, order = systems(nodes=nodes), torch.randperm(nodes, generator=seeded())
    model = FrameGNN(net(), frame_of="positions and velocities" if nodes == 2 else "positions")
    moved = {"pos": x["pos"][:, order], "vel": x["vel"][:, order], "edge_attr": x["edge_attr"][:, order][:, :, order]}
    close(model(moved), model(x)[:, order], 1e-10)


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
    x = {"pos": x["pos"], "vel": x["vel"]}
    for distances in (True, False):
        plain = MessagePassing(6, 3, 6, layers=2, edge_features=int(distances), generator=seeded()).double()
        model = FrameGNN(plain, distances=distances)
        assert model(x).shape == (4, 5, 3)
        assert float(equivariance_error(model, None, x, elements=20, reduce="max")) < 1e-12


SQUARE = torch.tensor([[1.0, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]], dtype=torch.float64)[None]


def square() -> dict[str, Tensor]:
    return {"pos": SQUARE, "vel": torch.zeros_like(SQUARE), "edge_attr": torch.ones(1, 4, 4, 1, dtype=torch.float64)}


def test_ties_are_reported() -> None:
    with pytest.warns(DegenerateFrameWarning, match=r"system 0 does not determine its frame: eigenvalues .*'4', '4'"):
        FrameGNN(net())(square())
    with pytest.warns(DegenerateFrameWarning, match="system 0 does not determine its frame"):
        FrameGNN(net())(systems(nodes=2))
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
        (lambda: FrameGNN(net())(systems(nodes=5) | {"edge_attr": randn(4, 4, 4, 1)}), ShapeError, "edge_attr"),
        (lambda: FrameGNN(net())({"pos": randn(4, 0, 3), "vel": randn(4, 0, 3)}), ShapeError, "N at least 1"),
        (lambda: FrameGNN(net(width=8)), ErlangenError, "has width 8"),
        (lambda: FrameGNN(MessagePassing(5, 3, 9)), ErlangenError, "reads 5 numbers"),
        (lambda: FrameGNN(net(), E(2)), ErlangenError, r"give E\(3\) or SE\(3\)"),
        (lambda: FrameGNN(net(), SO(3)), ErlangenError, r"give E\(3\) or SE\(3\)"),
        (lambda: FrameGNN(net(edge_features=0)), ErlangenError, "pass distances=False"),
        (lambda: FrameGNN(net(), frame_of="vel"), UnknownNameError, "'vel': choose one of positions"),
        (lambda: FrameGNN(net(), on_degenerate="pass"), UnknownNameError, "'warn', 'error' or 'allow'"),
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
