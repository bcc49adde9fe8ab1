"""Keys of weights: the network stays the same function, whatever its layers; hand-made cases; what must not pass."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import erlangen as er
from erlangen.actions import Port, Stream, Weights, WeightStreams, weight_streams
from erlangen.errors import ActionError, ModelError, ShapeError, SymmetryError
from erlangen.groups import GLPlus, O, Wreath


class Residual(nn.Module):
    """Two residual blocks with batch normalisation, a strided shortcut, pooling and a flattened head."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.stem, self.bn0 = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.a, self.bna = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.b, self.bnb = nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6)
        self.short, self.bns = nn.Conv2d(4, 6, 1, stride=2), nn.BatchNorm2d(6)
        self.head = nn.Linear(6 * 4, classes)

    def forward(self, x):
        x = F.relu(self.bn0(self.stem(x)))
        x = F.relu(x + self.bna(self.a(x)))
        x = F.relu(self.bnb(self.b(x)) + self.bns(self.short(x)))
        return self.head(F.max_pool2d(x, 2).flatten(1))


class Gated(nn.Module):
    """SwiGLU with RMSNorm without gain: the residual stream is mixed by O(d), the gate renamed, the other branch rescaled."""

    def __init__(self, d: int = 6, hidden: int = 5) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(11, d), nn.Parameter(torch.randn(7, d))
        self.norm = nn.RMSNorm(d, elementwise_affine=False)
        self.gate, self.up, self.down = nn.Linear(d, hidden), nn.Linear(d, hidden), nn.Linear(hidden, d)
        self.out = nn.Linear(d, 11, bias=False)

    def forward(self, tokens):
        x = self.embed(tokens) + self.place
        y = self.norm(x)
        x = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return self.out(self.norm(x))


class Tied(Gated):
    """The head reads with the weights of the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.out.weight = self.embed.weight


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lift, self.norm = nn.Linear(3, 8), nn.LayerNorm(8)
        self.mix, self.read = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 2)

    def forward(self, x):
        x = self.lift(x)
        y = self.norm(x)
        return self.read((x + self.mix(y, y, y)[0]).mean(1))


class Shared(nn.Module):
    """One layer used twice, a concatenation, and a scale per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.gain = nn.Linear(4, 5), nn.Linear(5, 5), nn.Parameter(torch.rand(5))
        self.last = nn.Linear(10, 2)

    def forward(self, x):
        a = torch.relu(self.first(x))
        b = torch.relu(self.again(a))
        return self.last(torch.cat([b * self.gain, torch.relu(self.again(b))], -1))


def mlp(activation: nn.Module | None, widths=(4, 8, 6, 3)) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), *([activation] if activation is not None else [])]
    return nn.Sequential(*layers[: len(layers) - (activation is not None)])


class TwoSigns(nn.Module):
    """Two sets of odd units behind one gate: either may change its signs, and a key moves one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.first, self.second = (nn.Linear(4, 6) for _ in range(3))
        self.out, self.other = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(self.gate(x))
        return self.out(torch.tanh(self.first(x)) * gate) + self.other(torch.tanh(self.second(x)) * gate)


def decoder() -> nn.Sequential:
    """A transposed convolution keeps its outputs on the second axis of its weight."""
    convs = (nn.Conv2d(2, 4, 3), nn.ConvTranspose2d(4, 6, 2, stride=2), nn.Conv2d(6, 3, 1))
    return nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.Tanh(), convs[2])


tokens = torch.randint(11, (4, 7), generator=torch.Generator().manual_seed(0))
CASES = {
    "relu": (lambda: mlp(nn.ReLU()), torch.randn(5, 4), ["Monomial(8)", "Monomial(6)"]),
    "leaky": (lambda: mlp(nn.LeakyReLU()), torch.randn(5, 4), ["Monomial(8)", "Monomial(6)"]),
    "tanh": (lambda: mlp(nn.Tanh()), torch.randn(5, 4), ["Hyperoctahedral(8)", "Hyperoctahedral(6)"]),
    "gelu": (lambda: mlp(nn.GELU()), torch.randn(5, 4), ["Symmetric(8)", "Symmetric(6)"]),
    "linear": (lambda: mlp(None), torch.randn(5, 4), ["GL+(8)", "GL+(6)"]),
    "residual": (Residual, torch.randn(3, 2, 8, 8), ["Monomial(4)", "Monomial(6)"]),
    "gated": (Gated, tokens, ["O(6)", "Monomial(5)"]),
    "tied": (Tied, tokens, ["O(6)", "Monomial(5)"]),
    "attention": (Attention, torch.randn(3, 5, 3), ["Monomial(8)", "GL+(4)", "GL+(4)", "GL+(4)", "GL+(4)"]),
    "transposed": (decoder, torch.randn(3, 2, 5, 5), ["Monomial(4)", "Hyperoctahedral(6)"]),
    "two signs": (TwoSigns, torch.randn(5, 4), ["Hyperoctahedral(6)"]),
    "shared": (Shared, torch.randn(6, 4), ["Monomial(5)"]),
}


def build(case: str) -> tuple[nn.Module, torch.Tensor, list[str]]:
    make, x, names = CASES[case]
    torch.manual_seed(0)
    net = make().double()
    for module in net.modules():  # running statistics and gains that tell the units apart
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
        if isinstance(module, nn.MultiheadAttention):  # its biases start at zero
            nn.init.normal_(module.in_proj_bias)
            nn.init.normal_(module.out_proj.bias)
    return net.eval(), x.double() if x.is_floating_point() else x, names


def test_a_key_of_signs_moves_one_set_of_units() -> None:
    net, x, _ = build("two signs")
    (stream,) = weight_streams(net, x).streams
    signed = {port.parameter for port in stream.ports if port.role != "places"}
    assert signed in ({"first.weight", "first.bias", "out.weight"}, {"second.weight", "second.bias", "other.weight"})


@pytest.mark.parametrize("case", CASES)
def test_the_function_stays(case: str) -> None:
    net, x, names = build(case)
    streams = weight_streams(net, x)
    assert [stream.group.name for stream in streams.streams] == names
    sym = er.Symmetry(streams.group, input=Weights(streams), output="invariant")
    weights = er.measure.stack_weights(net)
    report = er.audit(er.measure.function_of_weights(net, x), sym, weights, elements=20)
    assert report.worst_error < 1e-11
    moved = streams.act(
        streams.group.sample(1, generator=torch.Generator().manual_seed(1), dtype=torch.float64), weights
    )
    for stream in streams.streams:  # every port moves something
        for port in stream.ports:
            assert not torch.allclose(moved[port.parameter], weights[port.parameter]), port


@pytest.mark.parametrize("case", CASES)
def test_left_action(case: str) -> None:
    net, x, _ = build(case)
    streams = weight_streams(net, x)
    G, state = streams.group, er.measure.stack_weights(net)
    g, h = G.sample((2, 3, 1), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    state = {name: t[None] for name, t in state.items()}
    once, twice = streams.act(G.compose(g, h), state), streams.act(g, streams.act(h, state))
    back = streams.act(G.inverse(g), streams.act(g, state))
    same = streams.act(G.identity(dtype=torch.float64), state)
    for name, tensor in state.items():
        assert once[name].shape == (3, *tensor.shape[1:])
        torch.testing.assert_close(once[name], twice[name], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(back[name], tensor.expand_as(back[name]), rtol=1e-9, atol=1e-11)
        assert torch.equal(same[name], tensor)


def test_by_hand() -> None:
    net = mlp(nn.ReLU(), (1, 2, 1)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0], [2.0]]))
        net[0].bias.copy_(torch.tensor([3.0, 4.0]))
        net[2].weight.copy_(torch.tensor([[5.0, 6.0]]))
    streams = weight_streams(net, torch.zeros(1, 1).double())
    g = torch.tensor([[1.0, 0.0], [2.0, 4.0]]).double()  # the first unit goes to place 1 and is doubled
    moved = streams.act(g, net.state_dict())
    assert moved["0.weight"].tolist() == [[8.0], [2.0]]
    assert moved["0.bias"].tolist() == [16.0, 6.0]
    assert moved["2.weight"].tolist() == [[1.5, 2.5]]
    charge = streams.charges(net.state_dict())["0"]
    assert charge.tolist() == [1 + 9 - 25, 4 + 16 - 36]


def test_hidden_states_move_by_their_keys() -> None:
    net, x, _ = build("relu")
    streams = weight_streams(net, x)
    g = streams.group.sample(1, dtype=torch.float64)[0]
    twin, keys = streams.transformed(net, g), streams.keys(g)
    for upto, stream in zip((2, 4), streams.streams, strict=True):
        M = stream.group.linear(keys[stream.name])
        torch.testing.assert_close(twin[:upto](x), net[:upto](x) @ M.mT)


def test_charges_are_conserved_by_gradient_flow() -> None:
    drifts = []
    for eta in (0.02, 0.01):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Linear(3, 5, bias=False), nn.Linear(5, 4, bias=False), nn.ReLU(), nn.Linear(4, 2)
        ).double()
        x, y = torch.randn(20, 3).double(), torch.randn(20, 2).double()
        streams = weight_streams(net, x)
        assert [s.group.name for s in streams.streams] == ["GL+(5)", "Monomial(4)"]
        before = streams.charges(net.state_dict())
        before = {name: charge.clone() for name, charge in before.items()}
        optimizer = torch.optim.SGD(net.parameters(), lr=eta)
        for _ in range(round(2 / eta)):
            optimizer.zero_grad()
            F.mse_loss(net(x), y).backward()
            optimizer.step()
        after = streams.charges(net.state_dict())
        drifts.append(sum((after[name] - before[name]).norm() for name in before))
        moved = (net[0].weight.detach() @ net[0].weight.detach().mT).norm()
        assert drifts[-1] < 0.05 * moved
    assert drifts[0] / drifts[1] == pytest.approx(2, abs=0.15)  # of order eta over a fixed time


def test_wrong_keys_are_seen() -> None:
    net, x, _ = build("gelu")
    ports = (Port("0.weight", 0), Port("0.bias", 0), Port("2.weight", 1, "in"))
    streams = WeightStreams.declare(net, [Stream("hidden", O(8), ports)])
    sym = er.Symmetry(streams.group, input=Weights(streams), output="invariant")
    report = er.audit(er.measure.function_of_weights(net, x), sym, er.measure.stack_weights(net), elements=10)
    assert report.error > 0.1  # GELU does not commute with rotations of its units
    forgotten = WeightStreams.declare(net, [Stream("hidden", er.Symmetric(8), ports[:2])])
    twin = forgotten.transformed(net, torch.arange(8).roll(1))
    assert (twin(x) - net(x)).norm() > 0.1 * net(x).norm()


def test_heads_change_places() -> None:
    """Two heads of four units, each with a matrix for scores and one for values, and a permutation of both."""
    net, x, _ = build("attention")
    rows, made = ("mix.in_proj_weight", "mix.in_proj_bias"), "mix.out_proj.weight"
    ports = [Port(row, 0, role, at, factors=which) for row in rows for role, at, which in
             (("out", 0, 0), ("in", 8, 0), ("out", 16, 1))]  # fmt: skip
    heads = Stream("heads", Wreath(2, GLPlus(4), GLPlus(4)), (*ports, Port(made, 1, "in", factors=1)))
    streams = WeightStreams.declare(net, [heads])
    sym = er.Symmetry(streams.group, input=Weights(streams), output="invariant")
    weights = er.measure.stack_weights(net)
    report = er.audit(er.measure.function_of_weights(net, x), sym, weights, elements=20)
    assert report.worst_error < 1e-11
    g, h = streams.group.sample((2, 1), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    once, twice = streams.act(streams.group.compose(g, h), weights), streams.act(g, streams.act(h, weights))
    for name in weights:
        torch.testing.assert_close(once[name], twice[name], rtol=1e-9, atol=1e-11)
    swap = streams.group.identity(dtype=torch.float64)
    swap[:2] = torch.tensor([1.0, 0.0])
    state = {name: t[0] for name, t in weights.items()}
    assert torch.equal(streams.act(swap, state)[made], state[made].unflatten(1, (2, 4)).flip(1).flatten(1))
    with pytest.raises(er.errors.GroupError, match="one dimension"):
        Wreath(2, GLPlus(4), GLPlus(3))
    with pytest.raises(er.errors.GroupError, match="infinite"):
        Wreath(2, er.Symmetric(4))


def test_groups_of_many_generators_have_no_lie_derivatives() -> None:
    """Two thousand directions, two calls each, would be most of an audit, and be of no use to a reader."""
    net = mlp(None, (4, 12, 3)).double()
    streams = weight_streams(net, torch.zeros(1, 4).double())  # GL+(12), of dimension 144
    sym = er.Symmetry(streams.group, input=Weights(streams), output="invariant")
    answers = er.measure.function_of_weights(net, torch.ones(2, 4).double())
    assert er.audit(answers, sym, er.measure.stack_weights(net), elements=5).lie_derivative is None
    few = weight_streams(mlp(nn.ReLU()), torch.zeros(1, 4))
    sym = er.Symmetry(few.group, input=Weights(few), output="invariant")
    net = mlp(nn.ReLU()).double()
    answers = er.measure.function_of_weights(net, torch.ones(2, 4).double())
    report = er.audit(answers, sym, er.measure.stack_weights(net), elements=5)
    assert report.lie_derivative is not None
    assert report.lie_derivative.shape == (14,)
    assert report.lie_derivative.max() < 1e-6


def test_several_networks_at_once_and_one_by_one() -> None:
    nets = [build("relu")[0] for _ in range(2)]
    with torch.no_grad():
        nets[1][0].weight.mul_(2)
    x = CASES["relu"][1].double()
    answers = er.measure.function_of_weights(nets[0], x)(er.measure.stack_weights(*nets))
    for net, answer in zip(nets, answers, strict=True):
        torch.testing.assert_close(answer, net(x))


def test_only_and_unknown_layers() -> None:
    net, x, _ = build("relu")
    streams = weight_streams(net, x)
    some = streams.only("2")
    assert some.group.name == "Monomial(6)"
    assert list(some.keys(some.group.sample(1)[0])) == ["2"]
    with pytest.raises(SymmetryError, match="no stream 'x'; streams are 0, 2"):
        streams.only("x")

    strange = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.Softmax(-1), nn.Linear(6, 3))
    with pytest.raises(ModelError, match=r"Softmax '3'.*unknown='fix'"):
        weight_streams(strange, torch.zeros(1, 4))
    kept = weight_streams(strange, torch.zeros(1, 4), unknown="fix")
    assert [stream.name for stream in kept.streams] == ["0"]


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda s, w: s.act(s.group.identity(), {"0.weight": w["0.weight"]}), SymmetryError, "lack '0.bias'"),
        (lambda s, w: s.act(s.group.identity(), {**w, "0.bias": torch.zeros(9)}), ShapeError, "0.bias has shape"),
        (lambda s, w: Weights(s).on(er.Symmetric(8)), ActionError, r"have the group Monomial\(8\) x Monomial\(6\)"),
        (lambda s, w: Weights(s).on(s.group).act(s.group.identity(), torch.zeros(3)), ActionError, "tensors by name"),
        (lambda s, w: weight_streams(Branching(), torch.zeros(3)), ModelError, "cannot follow Branching"),
        (lambda s, w: weight_streams(nn.Linear(3, 2), torch.zeros(1, 3)).group, SymmetryError, "there are no streams"),
        (
            lambda s, w: WeightStreams.declare(nn.Linear(3, 2), [Stream("a", er.Symmetric(2), (Port("w", 0),))]),
            SymmetryError,
            "'w' is no tensor of the model",
        ),
        (
            lambda s, w: WeightStreams.declare(Tied(), [Stream("a", er.Symmetric(11), (Port("out.weight", 0),))]),
            SymmetryError,
            "tied to 'embed.weight'",
        ),
        (
            lambda s, w: WeightStreams.declare(nn.Linear(3, 2), [Stream("a", er.Symmetric(4), (Port("weight", 1),))]),
            SymmetryError,
            "4 units of 1 entries from 0 on do not fit",
        ),
        (
            lambda s, w: WeightStreams.declare(nn.Linear(3, 2), [Stream("a", er.Symmetric(2), (Port("weight", 2),))]),
            SymmetryError,
            "has no axis 2",
        ),
        (lambda s, w: s.transformed(mlp(nn.ReLU()), s.group.sample(2)), ShapeError, "give one element"),
        (
            lambda s, w: WeightStreams.declare(
                mlp(nn.ReLU()), [Stream("a", O(8), (Port("0.weight", 0, "places"),))]
            ).act(O(8).identity(), w),
            SymmetryError,
            "cannot only rename",
        ),
        (lambda s, w: er.measure.stack_weights(mlp(nn.ReLU()), mlp(None)), ShapeError, "different tensors"),
    ],
)
def test_bad_input(call, error, match) -> None:
    net = mlp(nn.ReLU())
    with pytest.raises(error, match=match):
        call(weight_streams(net, torch.zeros(1, 4)), net.state_dict())


def test_tensors_without_axes_are_passed_on() -> None:
    """A batch normalisation counts its batches in a tensor of shape []; one element, and a batch of elements."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    streams = weight_streams(net, torch.randn(1, 1, 8, 8))
    state, g = net.state_dict(), streams.group.sample(3)
    assert streams.act(g[0], state)["1.num_batches_tracked"].shape == ()
    many = {name: t.expand(3, *t.shape) for name, t in state.items()}
    assert streams.act(g, many)["1.num_batches_tracked"].shape == (3,)
