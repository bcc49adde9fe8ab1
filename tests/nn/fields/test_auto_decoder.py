"""Codes by descent: closed forms, gradients against finite differences, samples that do not see each other, the contract."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from erlangen.errors import ErlangenError, NotFiniteError, ShapeError, UnknownNameError
from erlangen.nn import AutoDecoder, EquivariantField, inner_sgd, latent_grid, repeat_latents
from erlangen.testing import check_layer


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def samples(batch: int = 3, count: int = 12, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    x = 2 * torch.rand(batch, count, 2, generator=rng(1), dtype=torch.float64) - 1
    return x.to(dtype), (x.norm(dim=-1, keepdim=True) - 0.5).to(dtype)


def coder(count: int = 4, steps: int = 3, **options) -> AutoDecoder:
    torch.manual_seed(0)
    field = EquivariantField(2, 1, width=4, heads=2, std=(0.3, 0.3))
    return AutoDecoder(field, latent_grid(count, 2), steps=steps, rate=0.5, **options).double()


def test_contract() -> None:
    for dtype in (torch.float32, torch.float64):
        model = coder().to(dtype)
        x, y = samples(dtype=dtype)
        start = repeat_latents(model.start, len(x))
        ran = check_layer(model, (x, y, start), skip=["dtype"] if dtype == torch.float64 else [])
        assert {"symmetry", "vmap", "compile", "double_backward"} <= set(ran)


def test_a_quadratic_in_closed_form() -> None:
    """Steps on w^2 z^2 / 2 multiply z by 1 - rate w^2, and so does every derivative say."""
    w, z, rate = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (1.3, 0.7, 0.2))
    found = inner_sgd(lambda v, _: (w * v).square() / 2, z, rate, [None] * 3)
    shrink = 1 - rate * w.square()
    torch.testing.assert_close(found, z * shrink**3, rtol=0, atol=1e-15)
    got = torch.autograd.grad(found, (w, z, rate))
    due = torch.autograd.grad(z * shrink**3, (w, z, rate))
    torch.testing.assert_close(got, due, rtol=0, atol=1e-14)
    first = inner_sgd(lambda v, _: (w * v).square() / 2, z, rate, [None] * 3, second_order=False)
    torch.testing.assert_close(first, found, rtol=0, atol=0)
    (start,) = torch.autograd.grad(first, z)
    assert float(start) == pytest.approx(1, abs=1e-15)  # gradients of the steps count as constants


def test_meta_gradient_is_that_of_finite_differences() -> None:
    """All parameters: central differences in float64 against the gradient through three steps."""
    model = coder(count=1)
    x, y = samples(2, 6)
    parameters = dict(model.named_parameters())
    names, sizes = list(parameters), [p.numel() for p in parameters.values()]

    def loss(flat: Tensor) -> Tensor:
        pieces = [v.view_as(p) for v, p in zip(flat.split(sizes), parameters.values(), strict=True)]
        code = functional_call(model, dict(zip(names, pieces, strict=True)), ((x, y),))
        inner = {k.removeprefix("field."): v for k, v in zip(names, pieces, strict=True) if k.startswith("field.")}
        return (functional_call(model.field, inner, (x, code)) - y).square().mean()

    flat = torch.cat([p.detach().flatten() for p in parameters.values()]).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(flat), flat)
    directions = torch.randn(20, len(flat), generator=rng(), dtype=torch.float64)
    directions = directions / directions.norm(dim=-1, keepdim=True)
    h = 1e-5
    with torch.no_grad():
        numeric = torch.stack([(loss(flat + h * d) - loss(flat - h * d)) / (2 * h) for d in directions])
    error = float((numeric - directions @ gradient).abs().max() / (directions @ gradient).abs().max())
    assert error < 1e-5, error
    model.second_order = False
    (first,) = torch.autograd.grad(loss(flat), flat)
    assert float((first - gradient).norm() / gradient.norm()) > 1e-3


def test_no_step_gives_the_start() -> None:
    code = coder(steps=0)(samples())
    assert bool((code["features"] == 1).all())


def test_samples_do_not_see_each_other() -> None:
    """Losses are summed: a mean over the batch would make every step a third as long."""
    model, (x, y) = coder(), samples()
    together = model((x, y))["features"]
    alone = torch.cat([model((x[i : i + 1], y[i : i + 1]))["features"] for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-13)
    assert float((together[0] - together[1]).detach().abs().max()) > 1e-4


def test_positions_and_windows_stay_to_the_bit() -> None:
    model = coder()
    code, start = model(samples()), repeat_latents(model.start, 3)
    for name in ("pos", "window"):
        assert torch.equal(code[name], start[name])
    assert [tuple(rate.shape) for rate in model.rates.values()] == [(2,)]
    assert [tuple(rate.shape) for rate in coder(shared_rate=True).rates.values()] == [()]


def test_random_points_are_those_of_the_generator() -> None:
    model, (x, y) = coder(), samples()
    found = [model.encode(x, y, points=5, generator=rng(s))["features"] for s in (3, 3, 4)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    one = model.encode(x, y, points=12, generator=rng(5))["features"]  # all of them, in another order
    torch.testing.assert_close(one, model((x, y))["features"], rtol=0, atol=1e-12)


def test_training_through_the_steps_makes_them_work() -> None:
    model = coder(count=9).float()
    x, y = samples(8, 40, torch.float32)
    scale = 0.5 + torch.rand(8, 1, 1, generator=rng())
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    before = float(model.loss(x, scale * y).detach())
    for _ in range(120):
        optimizer.zero_grad()
        model.loss(x, scale * y).backward()
        optimizer.step()
        model.clip_rates()
    assert float(model.loss(x, scale * y).detach()) < before / 5
    with torch.no_grad():  # codes are found here too
        code = model((x, scale * y))
        start = repeat_latents(model.start, 8)
        errors = [(model.field(x, c) - scale * y).square().mean((1, 2)) for c in (start, code)]
    assert bool((errors[1] < errors[0]).all())


class Bare(nn.Module):
    """A field without a symmetry."""

    def forward(self, x: Tensor, code: dict[str, Tensor]) -> Tensor:
        return x.sum(-1, keepdim=True) * code["code"][:, None]


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: AutoDecoder(Bare(), {"code": torch.zeros(1)}, rate=0.0, moves=["code"]), ErlangenError, "rate = 0.0"),
        (lambda: AutoDecoder(Bare(), {"code": torch.zeros(1)}, steps=-1, moves=["code"]), ErlangenError, "steps = -1"),
        (lambda: AutoDecoder(Bare(), {"code": torch.zeros(1)}), UnknownNameError, "moves = .*: choose from code"),
        (lambda: AutoDecoder(Bare(), {"code": torch.zeros(1)}, moves=["code"]).symmetry, ErlangenError, "no symmetry"),
        (lambda: coder()((samples()[0], samples()[1][:, :5])), ShapeError, "other numbers of points"),
        (lambda: coder()((samples()[0], samples()[1] * torch.nan)), NotFiniteError, "y has 36 values"),
        (lambda: coder().encode(*samples(), points=13), ShapeError, "points = 13, but samples have 12"),
    ],
)
def test_bad_input(build, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        build()
