"""Fields on clouds of latents: the formula written out, symmetries, windows, queries that do not see each other."""

import math

import pytest
import torch
from torch import Tensor

from erlangen.errors import ErlangenError, ShapeError, UnknownNameError
from erlangen.nn import EquivariantField, FieldAttention, FieldInvariants, latent_grid, repeat_latents
from erlangen.testing import check_layer

KINDS = ["translation", "distance", "oriented", "periodic"]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cloud(features: int = 4, batch: int = 3, count: int = 5, dim: int = 2, dtype: torch.dtype = torch.float64):
    g = rng(1)
    random = torch.randn(batch, count, dim + features + dim, generator=g, dtype=torch.float64)
    pos, a, ori = random.split([dim, features, dim], -1)
    window = 0.5 + torch.rand(batch, count, generator=g, dtype=torch.float64)
    found = {"pos": pos, "features": a, "window": window, "ori": ori / ori.norm(dim=-1, keepdim=True)}
    return {key: value.to(dtype) for key, value in found.items()}


def queries(batch: int = 3, count: int = 7, dim: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(batch, count, dim, generator=rng(2), dtype=torch.float64).to(dtype)


def field(kind: str = "translation", layers: int = 2, dim: int = 2) -> EquivariantField:
    torch.manual_seed(0)
    periods = [2.0] * dim if kind == "periodic" else None
    return EquivariantField(
        4, 3, dim, width=8, heads=2, layers=layers, kind=kind, periods=periods, std=(0.1, 0.1), deep_stem=True
    ).double()


def wanted(kind: str, dtype: torch.dtype = torch.float64, dim: int = 2):
    found = cloud(dtype=dtype, dim=dim)
    return found if kind == "oriented" else {key: value for key, value in found.items() if key != "ori"}


@pytest.fixture(autouse=True)
def _forget_graphs():
    """Compiled graphs of one kind of field do not count against the next."""
    torch._dynamo.reset()


def near(x: Tensor, latents: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """In -1..1, where coordinates should be, and with windows as wide as those of grids."""
    return x.tanh(), latents | {"pos": latents["pos"].tanh(), "window": latents["window"] + 0.5}


@pytest.mark.parametrize("kind", KINDS)
def test_contract(kind: str) -> None:
    model = field(kind).float()
    ran = check_layer(model, near(queries(dtype=torch.float32), wanted(kind, torch.float32)))
    assert {"symmetry", "vmap", "compile", "double_backward"} <= set(ran)
    check_layer(model.double(), near(queries(), wanted(kind)), skip=["dtype"])


@pytest.mark.parametrize("kind", ["translation", "distance", "oriented"])
def test_space(kind: str) -> None:
    check_layer(field(kind, dim=3), (queries(dim=3), wanted(kind, dim=3)), skip=["dtype"])


def test_translations_do_not_turn_but_distances_do() -> None:
    """What the kinds promise, and no more: a field on relative positions changes under rotations."""
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    x, latents = queries(), wanted("translation")
    moved = latents | {"pos": latents["pos"] @ turn.mT}
    for kind, same in (("distance", True), ("translation", False)):
        model = field(kind)
        gap = float((model(x @ turn.mT, moved) - model(x, latents)).detach().abs().max())
        assert (gap < 1e-12) == same
        assert same or gap > 1e-3


def test_whole_periods_of_queries_change_nothing() -> None:
    model, x, latents = field("periodic"), queries(), wanted("periodic")
    shift = 2.0 * torch.randint(-3, 4, x.shape, generator=rng())
    torch.testing.assert_close(model(x + shift, latents), model(x, latents), rtol=0, atol=1e-12)


def test_the_formula_one_pair_at_a_time() -> None:
    """Softmax of q.k / sqrt(H) - d^2 / sigma^2; values modulated on all heads together and mixed within each."""
    torch.manual_seed(0)
    layer = FieldAttention(FieldInvariants("translation", 2), 4, heads=2, out_features=3).double()
    x, latents = queries(1, 3), cloud(batch=1)
    answers = layer(x, latents)
    assert answers.shape == (1, 3, 3)
    for i, point in enumerate(x[0]):
        logits, values = [], []
        for p, a, sigma in zip(latents["pos"][0], latents["features"][0], latents["window"][0], strict=True):
            r = point - p
            q, k, v = layer.query(layer.embed_query(r)), layer.key(a), layer.value(a)
            logits.append([(q[4 * h : 4 * h + 4] @ k[4 * h : 4 * h + 4] / 2 - r @ r / sigma**2).item() for h in (0, 1)])
            gamma, beta = layer.modulation(layer.embed_value(r)).split(8)
            changed = v * (1 + gamma) + beta
            values.append([layer.mixer(changed[:4]), layer.mixer(changed[4:])])
        found = []
        for h in (0, 1):
            weights = [math.exp(row[h]) for row in logits]
            found.append(sum(w * row[h] for w, row in zip(weights, values, strict=True)) / sum(weights))
        torch.testing.assert_close(answers[0, i], layer.out(torch.cat(found)), rtol=0, atol=1e-12)


def test_gradcheck() -> None:
    torch.manual_seed(0)
    layer = FieldAttention(FieldInvariants("translation", 2), 4, heads=1, std=(0.3, 0.3)).double()
    x, latents = queries(1, 2), cloud(batch=1, count=3)
    names = ["pos", "features", "window"]

    def answer(x: Tensor, *values: Tensor) -> Tensor:
        return layer(x, dict(zip(names, values, strict=True)))

    given = [t.detach().requires_grad_() for t in (x, *(latents[n] for n in names))]
    assert torch.autograd.gradcheck(answer, given, nondet_tol=0)


@pytest.mark.parametrize("layers", [0, 2])
def test_order_of_latents_and_other_queries_do_not_matter(layers: int) -> None:
    model, x, latents = field(layers=layers), queries(), wanted("translation")
    whole = model(x, latents)
    order = torch.randperm(5, generator=rng())
    torch.testing.assert_close(model(x, {k: v[:, order] for k, v in latents.items()}), whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(model(x[:, 2:3], latents), whole[:, 2:3], rtol=0, atol=1e-12)
    for chunk in (1, 3, 100):
        torch.testing.assert_close(model.evaluate(x, latents, chunk=chunk), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("layers", [0, 2])
def test_narrow_windows_hear_the_nearest_latent_alone(layers: int) -> None:
    """Also among latents: each hears itself, so that the others may be anything."""
    model, x, latents = field(layers=layers), queries(1), {k: v[:1] for k, v in wanted("translation").items()}
    narrow = latents | {"window": torch.full((1, 5), 1e-3, dtype=torch.float64)}
    nearest = torch.cdist(x, latents["pos"])[0].argmin(-1)
    alone = [model(x[:, i : i + 1], {k: v[:, n : n + 1] for k, v in narrow.items()}) for i, n in enumerate(nearest)]
    torch.testing.assert_close(model(x, narrow), torch.cat(alone, 1), rtol=0, atol=1e-12)


def test_wide_windows_are_none() -> None:
    torch.manual_seed(0)
    layer = FieldAttention(FieldInvariants("translation", 2), 4, std=(0.3, 0.3)).double()
    x, latents = queries(), cloud()
    wide = layer.logits(x, latents | {"window": torch.full((3, 5), 1e9, dtype=torch.float64)})
    squares = torch.cdist(x, latents["pos"]).square() / latents["window"].square()[:, None]
    torch.testing.assert_close(layer.logits(x, latents) + squares[:, None], wide, rtol=0, atol=1e-12)


def test_grids() -> None:
    grid = latent_grid(9, 8)
    torch.testing.assert_close(grid["pos"][:, 0].unique(), torch.tensor([-2 / 3, 0, 2 / 3]))
    torch.testing.assert_close(grid["window"], torch.full((9,), 2 / 3))
    assert float(grid["features"].min()) == float(grid["features"].max()) == 1
    boxed = latent_grid(9, 8, box=[(-0.5, 0.25), (-0.25, 0.25)], extra=1)
    torch.testing.assert_close(boxed["pos"][:, 0].unique(), torch.tensor([-0.5, -0.125, 0.25]))
    assert boxed["pos"].shape == (9, 3)
    assert float(boxed["pos"][:, 2].abs().max()) == 0
    torch.testing.assert_close(boxed["window"], torch.ones(9))
    assert latent_grid(8, 2, 3)["pos"].shape == (8, 3)
    assert repeat_latents(grid, 4)["features"].shape == (4, 9, 8)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda: latent_grid(8, 2),
            ErlangenError,
            r"count = 8 makes no grid in 2 dimensions; give one of \[4, 9, 16\]",
        ),
        (lambda: latent_grid(4, 2, box=[(0.0, 1.0), (1.0, 1.0)]), ErlangenError, r"box\[1\] = \(1.0, 1.0\)"),
        (lambda: latent_grid(4, 2, box=[(0.0, 1.0)]), ErlangenError, "box has 1 sides, but dim = 2"),
        (lambda: latent_grid(4, 2, window=0.0), ErlangenError, "window = 0.0: give a positive number"),
        (lambda: FieldInvariants("angles", 2), UnknownNameError, "kind = 'angles': choose translation"),
        (lambda: FieldInvariants("periodic", 2), ErlangenError, "periods = None: give 2"),
        (lambda: FieldInvariants("distance", 2, periods=[1.0, 1.0]), ErlangenError, "none for others"),
        (lambda: FieldInvariants("oriented", 4), ErlangenError, "dim = 4"),
        (lambda: EquivariantField(4, 1, layers=-1), ErlangenError, "layers = -1"),
        (lambda: field()(queries(dim=3), wanted("translation")), ShapeError, r"points \[B, Q, 2\] are needed"),
        (
            lambda: field()(queries(), wanted("translation", dim=3)),
            ShapeError,
            r"latents\['pos'\] has shape \(3, 5, 3\)",
        ),
        (lambda: field()(queries()), ShapeError, "latents is missing"),
        (lambda: field()(queries(), cloud(features=5)), ShapeError, "5 channels, but in_features = 4"),
        (lambda: field("oriented")(queries(), wanted("translation")), ShapeError, r"latents lack \['ori'\]"),
        (lambda: field()(queries(2), wanted("translation")), ShapeError, r"\[2, N, 2\] is needed"),
    ],
)
def test_bad_input(build, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        build()
