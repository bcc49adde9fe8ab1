"""Segments against a loop; PointNet: order, masks, and the contract of layers."""

import pytest
import torch
from torch import Tensor, nn

from erlangen.errors import DtypeError, ErlangenError, ShapeError, UnknownNameError
from erlangen.groups import Symmetric
from erlangen.nn import PointNet, mlp, segment_max, segment_mean, segment_sum
from erlangen.symmetry import Symmetry
from erlangen.testing import check_layer

ROWS = torch.tensor([3, 0, 3, 1, 0, 3])
REDUCED = {segment_sum: Tensor.sum, segment_mean: Tensor.mean, segment_max: Tensor.amax}


def draw(*size: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("reduce", REDUCED)
@pytest.mark.parametrize("shape", [(6,), (6, 2), (6, 2, 3)])
def test_segments_are_a_loop_over_rows(reduce, shape) -> None:
    x = draw(*shape) - 5  # all negative: zero would win a careless maximum
    out = reduce(x, ROWS, 5)
    assert out.shape == (5, *shape[1:])
    for segment in range(5):
        rows = x[segment == ROWS]
        expected = REDUCED[reduce](rows, 0) if len(rows) else torch.zeros(shape[1:])
        torch.testing.assert_close(out[segment], expected)


@pytest.mark.parametrize("reduce", REDUCED)
def test_segments_have_gradients(reduce) -> None:
    x = draw(6, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: reduce(x, ROWS, 5), x)
    assert torch.autograd.gradgradcheck(lambda x: reduce(x, ROWS, 5), x)


@pytest.mark.parametrize("reduce", REDUCED)
def test_segments_refuse(reduce) -> None:
    with pytest.raises(DtypeError, match="int64"):
        reduce(draw(6), ROWS.int(), 5)
    with pytest.raises(ShapeError, match="one number per row"):
        reduce(draw(5), ROWS, 5)


@pytest.mark.parametrize("pool", ["max", "mean"])
@pytest.mark.parametrize("per_point", [False, True])
def test_point_net_is_a_layer(pool, per_point) -> None:
    model = PointNet(4, 3, 8, per_point=per_point, pool=pool, generator=torch.Generator().manual_seed(0))
    order = Symmetry(Symmetric(7), input="permuted", output="permuted" if per_point else "invariant")
    check_layer(model, draw(5, 7, 4), order)


@pytest.mark.parametrize("pool", ["max", "mean"])
@pytest.mark.parametrize("per_point", [False, True])
def test_masked_points_do_not_count(pool, per_point) -> None:
    model = PointNet(4, 3, 8, per_point=per_point, pool=pool)
    x = draw(2, 7, 4)
    mask = torch.arange(7) < torch.tensor([[4], [7]])
    padded = model(torch.where(mask[..., None], x, 1e3), mask)
    alone = model(x[:1, :4])
    torch.testing.assert_close(padded[:1, :4] if per_point else padded[:1], alone)
    torch.testing.assert_close(padded[1], model(x)[1])


def test_the_generator_alone_decides_the_parameters() -> None:
    first, second = (mlp([3, 5, 2], generator=torch.Generator().manual_seed(1)).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [type(layer) for layer in mlp([3, 5, 2], nn.Tanh, last=True)] == [nn.Linear, nn.Tanh] * 2


def test_bad_input() -> None:
    with pytest.raises(ErlangenError, match="sizes"):
        mlp([3])
    with pytest.raises(ErlangenError, match="sizes"):
        mlp([3, 0])
    with pytest.raises(UnknownNameError, match="known pools are max, mean"):
        PointNet(3, 2, pool="sum")
    for shape in [(2, 5, 4), (5, 3), (2, 0, 3)]:
        with pytest.raises(ShapeError, match="N at least 1"):
            PointNet(3, 2)(torch.zeros(shape))
