"""Self-routing: the formula written out, shares, permutations, scales, and bad input."""

from collections.abc import Callable

import pytest
import torch

from erlangen.errors import ErlangenError, ShapeError
from erlangen.nn import SelfRouting
from erlangen.testing import check_layer

F64 = torch.float64


def drawn(seed: int = 0) -> tuple[SelfRouting, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    layer = SelfRouting(3, 4, size=2, pose=9, generator=draw).double()
    with torch.no_grad():
        layer.routes.normal_(generator=draw)
        layer.bias.normal_(generator=draw)
    return (
        layer,
        torch.rand(5, 3, 2, 2, dtype=F64, generator=draw),
        torch.randn(5, 3, 9, 2, 2, dtype=F64, generator=draw),
    )


def test_the_contract_of_layers() -> None:
    layer, a, u = drawn()
    check_layer(layer.float(), (a.float(), u.float()))


def test_the_formula_written_out() -> None:
    layer, a, u = drawn()
    seen, pose = layer((a, u))
    for b in range(5):
        total, numerator, votes = 0.0, torch.zeros(4, dtype=F64), torch.zeros(4, 9, dtype=F64)
        for k in range(3):
            for y in range(2):
                for x in range(2):
                    i = 4 * k + 2 * y + x
                    route = (u[b, k, :, y, x] @ layer.routes[i] + layer.bias[i]).softmax(0)
                    numerator += a[b, k, y, x] * route
                    vote = (u[b, k, :, y, x] @ layer.votes[i]).reshape(4, 9)
                    votes += a[b, k, y, x] * route[:, None] * vote
                    total += float(a[b, k, y, x])
        torch.testing.assert_close(seen[b], numerator / total)
        torch.testing.assert_close(pose[b], votes / numerator[:, None])


def test_activations_are_shares_and_their_scale_does_not_matter() -> None:
    layer, a, u = drawn()
    seen, pose = layer((a, u))
    torch.testing.assert_close(seen.sum(1), torch.ones(5, dtype=F64))
    assert bool((seen >= 0).all())
    for got, expected in zip(layer((7 * a, u)), (seen, pose), strict=True):
        torch.testing.assert_close(got, expected)


def test_new_layers_route_alike() -> None:
    """Each capsule gets a share of 1 / 4, and the mean of its votes, weighted by activation."""
    layer = SelfRouting(3, 4, size=2, pose=9, generator=torch.Generator().manual_seed(0)).double()
    _, a, u = drawn(1)
    seen, pose = layer((a, u))
    torch.testing.assert_close(seen, torch.full((5, 4), 0.25, dtype=F64))
    votes = torch.einsum("bnd,nde->bne", u.movedim(2, -1).flatten(1, 3), layer.votes).unflatten(-1, (4, 9))
    share = (a / a.sum((1, 2, 3), keepdim=True)).flatten(1)
    torch.testing.assert_close(pose, torch.einsum("bn,bnkd->bkd", share, votes))


def test_capsules_have_no_order() -> None:
    layer, a, u = drawn()
    seen, pose = layer((a, u))
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        layer.routes.copy_(layer.routes[..., order])
        layer.bias.copy_(layer.bias[:, order])
        layer.votes.copy_(layer.votes.unflatten(-1, (4, 9))[..., order, :].flatten(-2))
    again = layer((a, u))
    torch.testing.assert_close(again[0], seen[:, order])
    torch.testing.assert_close(again[1], pose[:, order])


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        (lambda: SelfRouting(0, 4, 2, 9), ErlangenError, "in_capsules"),
        (lambda: drawn()[0](tuple(x.transpose(0, 1) for x in drawn()[1:])), ShapeError, r"give \[B, 3, 2, 2\]"),
        (lambda: drawn()[0]((0 * drawn()[1], drawn()[2])), ErlangenError, "activations of sample 0 are all zero"),
    ],
)
def test_bad_input(wrong: Callable[[], object], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        wrong()
