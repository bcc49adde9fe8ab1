"""Matching finds hidden keys exactly, and merges networks that were trained apart."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import erlangen as er
from erlangen.actions import weight_streams
from erlangen.errors import ErlangenError, ShapeError, SymmetryError
from erlangen.learn import interpolation_barrier, match_weights


def mlp(activation: type[nn.Module] | None, seed: int = 0, width: int = 12) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Linear(4, width), nn.Linear(width, width), nn.Linear(width, 3)]
    if activation is None:
        return nn.Sequential(*layers).double()
    return nn.Sequential(layers[0], activation(), layers[1], activation(), layers[2]).double()


class Residual(nn.Module):
    """A stream that only RMSNorm without gain and linear maps touch: O(d)."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm = nn.Linear(4, 6), nn.RMSNorm(6, elementwise_affine=False)
        self.mix, self.out = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        x = self.up(x)
        return self.out(self.norm(x + self.mix(self.norm(x))))


@pytest.mark.parametrize("activation", [nn.GELU, nn.ReLU, nn.Tanh, "norm"])
def test_hidden_keys_are_found(activation) -> None:
    if activation == "norm":
        torch.manual_seed(0)
        net = Residual().double()
    else:
        net = mlp(activation)
    streams = weight_streams(net, torch.zeros(1, 4).double())
    g = streams.group.sample(1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)[0]
    if activation is nn.ReLU:  # factors are not matched
        g = streams.joined(
            {name: torch.cat([key[:1], torch.ones_like(key[1:])]) for name, key in streams.keys(g).items()}
        )
    state = net.state_dict()
    hidden = streams.act(g, state)
    found = streams.act(match_weights(streams, state, hidden), hidden)
    for name, tensor in state.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-9)


def test_no_step_is_worse_and_general_groups_are_left() -> None:
    a, b = mlp(nn.GELU, 0).state_dict(), mlp(nn.GELU, 1).state_dict()
    streams = weight_streams(mlp(nn.GELU), torch.zeros(1, 4).double())
    inner = lambda s: sum(float((a[name] * s[name]).sum()) for name in a)  # noqa: E731
    scores = [inner(b)]
    for sweeps in (1, 2, 3, 50):
        scores.append(inner(streams.act(match_weights(streams, a, b, sweeps=sweeps), b)))
    assert scores == sorted(scores)
    assert scores[-1] > scores[0] + 1
    linear = weight_streams(mlp(None), torch.zeros(1, 4).double())
    g = match_weights(linear, mlp(None, 0).state_dict(), mlp(None, 1).state_dict())
    assert torch.equal(g, linear.group.identity(dtype=torch.float64))


def test_networks_trained_apart_are_closer_after_matching() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 4, generator=generator, dtype=torch.float64)
    y = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > 0.5).long()
    nets = []
    for seed in (0, 1):
        net = mlp(nn.ReLU, seed, width=32)
        opt = torch.optim.Adam(net.parameters(), lr=1e-2)
        for _ in range(150):
            opt.zero_grad()
            F.cross_entropy(net(x), y).backward()
            opt.step()
        nets.append(net)
    streams = weight_streams(nets[0], x)
    a, b = (net.state_dict() for net in nets)
    loss = lambda w: F.cross_entropy(torch.func.functional_call(nets[0], w, (x,)), y)  # noqa: E731
    moved = streams.act(match_weights(streams, a, b), b)
    assert er.measure.function_of_weights(nets[0], x)({k: v[None] for k, v in moved.items()})[0].allclose(nets[1](x))
    before, after = interpolation_barrier(loss, a, b), interpolation_barrier(loss, a, moved)
    assert after < 0.7 * before


def test_barriers_in_closed_form() -> None:
    """Between -1 and 1 lie t = 0, 0.1, ..., 1 by default; a straight line of losses has no barrier, a bent one has its height."""
    ends = {"x": torch.tensor(-1.0, dtype=torch.float64), "n": torch.tensor(3)}, {"x": torch.tensor(1.0).double()}
    a, b = ends[0], {**ends[1], "n": torch.tensor(5)}
    seen: list[float] = []

    def bent(w: dict[str, torch.Tensor]) -> float:
        seen.append(float(w["x"]))
        assert int(w["n"]) == 3  # what is not floating stays that of the first
        return 2 - 2 * abs(float(w["x"]) + 0.5) if float(w["x"]) < 0 else 1 - float(w["x"])

    # The corner at -0.5 has the loss 2; the line from 1 to 0 has 0.75 there, a quarter of the way.
    assert interpolation_barrier(bent, a, b, points=5) == pytest.approx(2 - 0.75)
    assert seen == pytest.approx([-1, -0.5, 0, 0.5, 1])
    seen.clear()
    interpolation_barrier(bent, a, b)
    assert seen == pytest.approx([i / 5 - 1 for i in range(11)])
    seen.clear()
    interpolation_barrier(bent, a, b, points=3)
    assert seen == pytest.approx([-1, 0, 1])
    assert interpolation_barrier(lambda w: 7 * w["x"] + 1, a, b) == pytest.approx(0)


def test_bad_input() -> None:
    net = mlp(nn.ReLU)
    streams, state = weight_streams(net, torch.zeros(1, 4).double()), net.state_dict()
    with pytest.raises(SymmetryError, match=r"source lacks '0\.|source lacks '2\.|source lacks '4\."):
        match_weights(streams, state, {})
    with pytest.raises(ShapeError, match="in target"):
        match_weights(streams, state, {**state, "0.bias": torch.zeros(3)})
    with pytest.raises(ErlangenError, match="sweeps = 0"):
        match_weights(streams, state, state, sweeps=0)
    with pytest.raises(ErlangenError, match="points = 2"):
        interpolation_barrier(lambda w: 0.0, state, state, points=2)
    with pytest.raises(SymmetryError, match="is in one alone"):
        interpolation_barrier(lambda w: 0.0, state, {})
    with pytest.raises(SymmetryError, match="give one for each"):
        streams.joined({"0": torch.zeros(2, 12)})
