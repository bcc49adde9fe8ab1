"""The pointer network depends on visited cities alone, and not on the order of a list."""

import torch
from torch import Tensor

from erlangen.nn import Pointer


def close(a: Tensor, b: Tensor, tol: float) -> None:
    torch.testing.assert_close(a, b, rtol=tol, atol=tol * float(b.detach().abs().max()))


def test_pointer_sees_no_later_city_and_no_order() -> None:
    torch.manual_seed(0)
    model = Pointer(2, 8, 1).double().eval()
    pos = torch.rand(2, 6, 2, dtype=torch.float64)
    tours = torch.stack([torch.randperm(6) for _ in range(2)])
    logits = model(pos, tours)
    other = tours.clone()
    other[:, [3, 4, 5]] = tours[:, [5, 3, 4]]
    close(model(pos, other)[:, :3], logits[:, :3], 1e-12)
    order = torch.randperm(6)
    close(model(pos[:, order], order.argsort()[tours]), logits[..., order], 1e-12)
    assert bool((logits.gather(-1, tours[:, 1:, None]) > -11).all())
    assert bool((logits.gather(-1, tours[:, :-1, None]) == -1e9).all())
