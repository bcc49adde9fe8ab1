"""ManyBodyProduct: against repeated products, explicit coupling tensors, closed forms, and the layer contract."""

import math

import pytest
import torch
from torch import Tensor

from erlangen.errors import DtypeError, ErlangenError, GridError, IrrepsError, ShapeError, UnknownNameError
from erlangen.irreps import Irreps, S2Grid, gaunt_tensor, spherical_harmonics
from erlangen.nn import ManyBodyProduct, TensorProduct
from erlangen.testing import check_layer

F64 = torch.float64


def harmonics(L: int, channels: int = 1) -> Irreps:
    return Irreps([(channels, block.ir) for block in Irreps.spherical_harmonics(L)])


def of_power(irreps: Irreps, out: Irreps, order: int, road: str = "grid") -> ManyBodyProduct:
    """The power `order` alone, with weights 1."""
    product = ManyBodyProduct(irreps, out, order, road=road).double()  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        for n, (nu, _) in enumerate(product.paths):
            product.weight[:, n] = float(nu == order)
    return product


def relative(a: Tensor, b: Tensor) -> float:
    return float(((a - b).norm() / b.norm()).detach())


@pytest.mark.parametrize("road", ["grid", "fourier"])
@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_equals_repeated_products_without_truncation(order: int, road: str, generator: torch.Generator) -> None:
    L, C = 2, 3
    x = torch.randn(7, harmonics(L, C).dim, dtype=F64, generator=generator)
    power, degree = x, L
    for _ in range(order - 1):
        times = TensorProduct(harmonics(degree, C), harmonics(L, C), rule="gaunt", form="elementwise")
        assert times.irreps_out == harmonics(degree + L, C)
        power, degree = times(power, x), degree + L
    for lmax in (0, 2, order * L):
        out = harmonics(lmax, C)
        assert relative(of_power(harmonics(L, C), out, order, road)(x), power[:, : out.dim]) < 1e-12


@pytest.mark.parametrize("L", [0, 1, 2])
def test_equals_the_explicit_coupling_tensor(L: int, generator: torch.Generator) -> None:
    G1, G2 = gaunt_tensor(L, L, 2 * L, dtype=F64), gaunt_tensor(2 * L, L, L, dtype=F64)
    U = torch.einsum("abe,ecd->abcd", G1, G2)
    x = torch.randn(5, (L + 1) ** 2, dtype=F64, generator=generator)
    expected = torch.einsum("za,zb,zc,abcd->zd", x, x, x, U)
    assert relative(of_power(harmonics(L), harmonics(L), 3)(x), expected) < 1e-12


def test_powers_are_powers_of_functions_and_weights_go_by_element_channel_and_degree(
    generator: torch.Generator,
) -> None:
    product = ManyBodyProduct(harmonics(2, 2), harmonics(6, 2), 3, elements=3, generator=generator).double()
    x, element = torch.randn(4, 18, dtype=F64, generator=generator), torch.tensor([2, 0, 2, 1])
    points = torch.nn.functional.normalize(torch.randn(50, 3, dtype=F64, generator=generator), dim=-1)
    Y = spherical_harmonics(6, points)
    signals = torch.cat([x[:, :2, None], x[:, 2:8].unflatten(1, (2, 3)), x[:, 8:].unflatten(1, (2, 5))], -1)
    with torch.no_grad():
        product.weight.copy_(torch.randn(3, 1, 2, dtype=F64, generator=generator).expand_as(product.weight))
        # One weight for all degrees of all powers: the output is w (f + f^2 + f^3).
        out = product(x, element)
        f = signals @ Y[:, :9].T
        expected = product.weight[element, 0][..., None] * (f + f**2 + f**3)
        blocks = [out[:, where].unflatten(1, (2, -1)) for where in product.irreps_out.slices()]
        assert relative(torch.cat(blocks, -1) @ Y.T, expected) < 1e-12
        # The weight of one path moves its block, rows of its element and its channel alone.
        path = product.paths.index((2, 1))
        product.weight[2, path, 1] += 1
        change = product(x, element) - out
        where = torch.zeros_like(change, dtype=torch.bool)
        where[[0, 2], 2 + 3 : 2 + 6] = True
        assert bool((change[where].abs() > 1e-12).all())
        assert not bool(change[~where].any())


def test_pseudo_signals_have_the_parity_of_the_power(generator: torch.Generator) -> None:
    """f + s g squared is f^2 + g^2 + 2 s f g; a pseudo-signal alone has true even powers."""
    product = ManyBodyProduct("0o+1e", "0e+0o+1o+1e", 3)
    assert {(nu, str(product.irreps_out[n].ir)) for nu, n in product.paths} == {
        (1, "0o"), (1, "1e"), (2, "0e"), (2, "1o"), (3, "0o"), (3, "1e"),
    }  # fmt: skip
    both = of_power(Irreps("0e+1o+0o+1e"), Irreps("0e+1o+2e+0o+1e+2o"), 2)
    x = torch.randn(5, 8, dtype=F64, generator=generator)
    f, g = x[:, :4], x[:, 4:]
    G = gaunt_tensor(1, 1, 2, dtype=F64)
    times = lambda a, b: torch.einsum("za,zb,abc->zc", a, b, G)  # noqa: E731
    assert relative(both(x), torch.cat([times(f, f) + times(g, g), 2 * times(f, g)], -1)) < 1e-12


def test_roads_agree_in_float32(generator: torch.Generator) -> None:
    x = torch.randn(6, harmonics(3, 4).dim, generator=generator)
    grid, fourier = (of_power(harmonics(3, 4), harmonics(3, 4), 3, road).float() for road in ("grid", "fourier"))
    assert relative(fourier(x), grid(x)) < 1e-5


@pytest.mark.parametrize(
    ("irreps", "out", "elements"),
    [("2x0e+2x1o+2x2e", "2x0e+2x1o", 1), ("2x0e+2x1o+2x1e+2x2o", "2x1o+2x1e+2x0o", 3)],
)
def test_layer_contract(irreps: str, out: str, elements: int, generator: torch.Generator) -> None:
    torch._dynamo.reset()
    product = ManyBodyProduct(irreps, out, 3, elements=elements, generator=generator)
    x = torch.randn(4, product.irreps_in.dim, generator=generator)
    check_layer(product, x if elements == 1 else (x, torch.tensor([0, 2, 1, 2])))
    check_layer(product.double(), x.double() if elements == 1 else (x.double(), torch.tensor([0, 2, 1, 2])))


@pytest.mark.parametrize("elements", [1, 2])
def test_first_and_second_derivatives_over_several_blocks(
    elements: int, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("erlangen.nn.products.many_body.BLOCK_BYTES", 1)  # one row at a time
    product = ManyBodyProduct("2x0e+2x1o", "2x0e+2x1o+2x2e", 4, elements=elements, generator=generator).double()
    x = torch.randn(3, 8, dtype=F64, generator=generator, requires_grad=True)
    element = torch.tensor([1, 0, 1]) if elements == 2 else None

    def of(x: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(product, {"weight": weight}, (x, element))

    weight = product.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(of, (x, weight))
    assert torch.autograd.gradgradcheck(of, (x, weight))


@pytest.mark.parametrize(
    ("irreps", "out"), [("64x0e+64x1o+64x2e", "64x0e+64x1o"), ("64x0e+64x0o+64x1e", "64x0o+64x1o")]
)
def test_starts_with_unit_squares(irreps: str, out: str, generator: torch.Generator) -> None:
    """Averaged over 64 channels, 32 tables of weights and 4000 signals."""
    product = ManyBodyProduct(irreps, out, 3, elements=32, generator=generator)
    x = torch.randn(4000, product.irreps_in.dim, generator=generator)
    squares = product(x, torch.arange(4000) % 32).detach().square()
    for where in product.irreps_out.slices():
        assert math.isclose(float(squares[:, where].mean()), 1.0, rel_tol=0.15)


def test_leading_axes_and_half_precision(generator: torch.Generator) -> None:
    product = ManyBodyProduct("2x0e+2x1o", "2x0e+2x1o", 2, elements=2, generator=generator)
    x, element = torch.randn(2, 3, 8, generator=generator), torch.tensor([[0, 1, 0], [1, 1, 0]])
    out = product(x, element)
    assert relative(product(x[1, 2], element[1, 2]), out[1, 2]) < 1e-6
    half = product(x.bfloat16(), element)
    assert half.dtype == torch.bfloat16
    assert relative(half.float(), out) < 2e-2


@pytest.mark.parametrize(
    ("error", "text", "arguments"),
    [
        (IrrepsError, "reach 4", ("0e+1o+2e", "5o", 2)),
        (IrrepsError, "carries 1e", ("0e+1o", "1e", 3)),
        (IrrepsError, "carries 1o", ("1e", "1o", 3)),
        (IrrepsError, "3x1o has 3 copies, but each irrep needs the 2 channels", ("2x0e+3x1o", "2x0e", 2)),
        (IrrepsError, "irreps_out: 1x0e has 1 copies", ("2x0e+2x1o", "0e", 2)),
        (IrrepsError, "1o occurs in 2 blocks", ("1o+1o", "0e", 2)),
        (IrrepsError, "at least one irrep", ("", "0e", 2)),
        (IrrepsError, "lower the degree or order", (harmonics(6), "0e", 4)),
        (ErlangenError, "order is 0", ("0e", "0e", 0)),
        (ErlangenError, "order is True", ("0e", "0e", True)),
    ],
)
def test_bad_irreps(error: type[Exception], text: str, arguments: tuple[str, str, int]) -> None:
    with pytest.raises(error, match=text):
        ManyBodyProduct(*arguments)


def test_bad_options() -> None:
    with pytest.raises(ErlangenError, match="elements is 0"):
        ManyBodyProduct("0e", "0e", 2, elements=0)
    with pytest.raises(UnknownNameError, match="'dense'; known are: 'grid', 'fourier'"):
        ManyBodyProduct("0e", "0e", 2, road="dense")  # pyright: ignore[reportArgumentType]
    with pytest.raises(GridError, match=r"needs 11; the smallest grids are .*S2Grid\(polar=6, azimuthal=12\)"):
        ManyBodyProduct(harmonics(3), harmonics(2), 3, grid=S2Grid(5, 11))


def test_the_smallest_grid_is_exact_and_a_smaller_one_is_not(generator: torch.Generator) -> None:
    x = torch.randn(4, 16, dtype=F64, generator=generator)
    expected = of_power(harmonics(3), harmonics(2), 3)(x)
    for grid, exact in ((S2Grid(6, 12), True), (S2Grid(5, 12), False), (S2Grid(6, 11), False)):
        product = ManyBodyProduct(harmonics(3), harmonics(2), 3, grid=grid, exact=exact).double()
        product.load_state_dict(of_power(harmonics(3), harmonics(2), 3).state_dict())
        assert (relative(product(x), expected) < 1e-12) == exact


def test_bad_tensors() -> None:
    product = ManyBodyProduct("2x0e+2x1o", "2x0e", 2, elements=2)
    with pytest.raises(ShapeError, match="element is missing"):
        product(torch.randn(3, 8))
    with pytest.raises(ShapeError, match=r"int64 \[3\] is needed"):
        product(torch.randn(3, 8), torch.tensor([0, 1]))
    with pytest.raises(ShapeError, match=r"element\[1\] is 2, but there are 2 tables"):
        product(torch.randn(3, 8), torch.tensor([0, 2, 1]))
    with pytest.raises(ShapeError, match="x has shape"):
        product(torch.randn(3, 7), torch.tensor([0, 1, 1]))
    with pytest.raises(DtypeError, match=r"x.float\(\)"):
        product(torch.ones(3, 8, dtype=torch.int64), torch.tensor([0, 1, 1]))
