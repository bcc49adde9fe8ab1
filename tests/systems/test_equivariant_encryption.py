"""Keyed obfuscation: keys by hand, what a server must not be given, attacks against closed forms, what is refused."""

import ast
import copy
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from erlangen.actions import Port, Stream, WeightStreams
from erlangen.errors import DtypeError, ErlangenError, ModelError, ShapeError, SymmetryError
from erlangen.groups import CSO, DirectProduct, GLPlus, Hyperoctahedral, Monomial, O, Stabilizer, Symmetric
from erlangen.survey import Run
from erlangen.systems.learning.equivariant_encryption import (
    LanguageModel,
    ObfuscatedModel,
    ObfuscationClient,
    ObfuscationKey,
    ObfuscationWarning,
    activation_errors,
    fold_gain,
    fold_mean,
    method,
    obfuscate,
    obfuscated_streams,
)
from erlangen.systems.learning.equivariant_encryption._attacks import (
    align_distributions,
    bigrams,
    climb,
    known_names,
    match_contexts,
    match_frequencies,
    match_rows,
    nearest_elsewhere,
    recover_key,
    search,
)
from erlangen.systems.learning.equivariant_encryption._properties import (
    TRANSFORMERS,
    cases,
    changed,
    convolutions_case,
    operations,
    other_keys_do_not_commute,
    perceptron_case,
    transformer_case,
)
from erlangen.systems.learning.equivariant_encryption._transformer import Attention
from erlangen.systems.learning.equivariant_encryption.data import patches, vectors, windows
from erlangen.systems.learning.equivariant_encryption.method import NOT_PROTECTED

PROMISE = re.compile(r"secur|encrypt|unbreakable", re.IGNORECASE)
ALLOWED = (
    "equivariant_encryption", "# Equivariant encryption", "Equivariant encryption: models under secret keys",
    "Encrypted large model inference: the equivariant encryption paradigm", "who call it equivariant encryption",
    "The authors call this encryption", "no encryption", "neither makes it encryption",
    "homomorphic encryption, secure computation",
)  # fmt: skip
"""The name of the paper, what it is called and is not, and what other methods are."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The warning is said once in a process; one test asks for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ObfuscationWarning)
        yield


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double().eval()


def transformer(**options) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(11, 16, 4, 12, 2, **options).double().eval()


# --- keys ------------------------------------------------------------------------------------------------------------
def test_hkdf_is_that_of_the_standard() -> None:
    """RFC 5869, test cases 1 and 3."""
    secret = bytes.fromhex("0b" * 22)
    made = method.hkdf(secret, bytes.fromhex("f0f1f2f3f4f5f6f7f8f9"), 42, bytes(range(13)))
    due = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    assert made.hex() == due
    due = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    assert method.hkdf(secret, b"", 42).hex() == due


def test_a_secret_makes_one_key() -> None:
    streams = obfuscated_streams(small(), torch.zeros(1, 4).double(), input=O(4), output=Symmetric(3))
    first, again, other = (ObfuscationKey.generate(streams, secret) for secret in (b"one", b"one", b"two"))
    assert torch.equal(first.element, again.element)
    assert not torch.equal(first.element, other.element)
    assert [s.name for s in streams.streams] == ["0", "input", "output"]
    assert str(first) == "ObfuscationKey(0: Monomial(6), input: O(4), output: Symmetric(3))"
    assert not torch.equal(first.of("input"), ObfuscationKey.generate(streams.only("input"), b"two").of("input"))
    only = ObfuscationKey.generate(streams.only("input"), b"one")  # streams draw from seeds of their own
    assert torch.equal(first.of("input"), only.of("input"))


def test_one_key_by_hand() -> None:
    net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2)).double().eval()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0], [2.0]]))
        net[0].bias.copy_(torch.tensor([3.0, 4.0]))
        net[2].weight.copy_(torch.tensor([[5.0, 6.0], [7.0, 8.0]]))
        net[2].bias.copy_(torch.tensor([9.0, 10.0]))
    streams = obfuscated_streams(net, torch.zeros(1, 1).double(), output=Symmetric(2))
    parts = {"0": torch.tensor([[1.0, 0.0], [2.0, 4.0]]).double(), "output": torch.tensor([1, 0])}
    key = ObfuscationKey(streams, streams.joined(parts))
    state = obfuscate(net, key).state_dict()
    assert state["0.weight"].tolist() == [[8.0], [2.0]]
    assert state["2.weight"].tolist() == [[2.0, 3.5], [1.5, 2.5]]
    assert state["2.bias"].tolist() == [10.0, 9.0]
    assert torch.equal(ObfuscationClient(key, None).decode(torch.tensor([[1.0, 2.0]])), torch.tensor([[2.0, 1.0]]))


def test_ids_that_the_server_needs_stay() -> None:
    streams = transformer(gain=False).streams()
    key = ObfuscationKey.generate(streams, b"s", fixed={"vocabulary": (0, 7)})
    places = key.of("vocabulary")
    assert places[[0, 7]].tolist() == [0, 7]
    assert sorted(places.tolist()) == list(range(11))
    assert places.tolist() != list(range(11))
    client = ObfuscationClient(key, "vocabulary", "vocabulary")
    ids = torch.arange(11)
    assert torch.equal(client.encode(ids), places)
    assert torch.equal(client.decode(client.encode(ids)), ids)


def test_the_warning_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(method, "_warned", False)
    net = small()
    key = ObfuscationKey.generate(obfuscated_streams(net, torch.zeros(1, 4).double()), b"s")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        with pytest.warns(ObfuscationWarning, match="no encryption.*public weights"):
            obfuscate(net, key)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        obfuscate(net, key)


def test_no_public_name_or_text_promises_more() -> None:
    """Of protection the texts speak as what the vendor calls it, as what it is not, or as what others do."""
    folder = Path(method.__file__).parent
    for file in folder.glob("*.py"):
        names = [
            node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        ]
        assert not any(PROMISE.search(node.name) for node in names)
    readme = (folder / "README.md").read_text()
    said = {file.name: file.read_text() for file in folder.glob("*.py")} | {"README.md": readme}
    for name, text in said.items():
        text = re.sub(r"\s+", " ", text)
        for allowed in ALLOWED:
            text = text.replace(allowed, "")
        assert not PROMISE.search(text), (name, PROMISE.search(text))
    assert "In the sense of cryptography it is none" in readme
    assert NOT_PROTECTED.startswith("keyed obfuscation is no encryption")


def test_the_server_has_no_key() -> None:
    net = small()
    key = ObfuscationKey.generate(obfuscated_streams(net, torch.zeros(1, 4).double(), input=O(4)), b"s")
    model = ObfuscatedModel(net, key, ObfuscationClient(key, output=None))
    assert type(model.server) is nn.Sequential
    assert set(model.server.state_dict()) == set(net.state_dict())
    held = [v for m in model.server.modules() for v in vars(m).values()]
    assert not any(isinstance(v, (ObfuscationKey, WeightStreams)) for v in held)


# --- the same function -----------------------------------------------------------------------------------------------
def test_hooks_find_a_wrong_fold() -> None:
    """A gain that was forgotten: the answers say that something is wrong, the activations say where."""
    _, net, key, client, x = transformer_case("rms, rotary", 0, torch.float64)
    server = obfuscate(net, key)
    errors = activation_errors(net, server, key, x, client.encode(x))
    units = ("gate", "up", "down")
    sides = {
        "embed out",
        "head in",
        "head out",
        *(f"blocks.1.gated.{n} {side}" for n in units for side in ("in", "out")),
    }
    assert sides <= set(errors)
    assert max(errors.values()) < 1e-12
    wrong = copy.deepcopy(server)
    assert isinstance(wrong, LanguageModel)
    with torch.no_grad():
        wrong.blocks[1].gated.up.weight[0] *= 1.01
    found = activation_errors(net, wrong, key, x, client.encode(x))
    bad = {name for name, error in found.items() if error > 1e-6}
    at = "blocks.1.gated"
    assert bad == {f"{at}.up out", f"{at}.down in", f"{at}.down out", "head in", "head out"}
    assert not any(name.startswith("blocks.0") for name in bad)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_folds_keep_the_function(name: str) -> None:
    original, folded, *_, ids = transformer_case(name, 0, torch.float64)
    with torch.no_grad():
        assert torch.allclose(folded(ids), original(ids), atol=1e-11)
    assert not any(getattr(m, "elementwise_affine", False) for m in folded.modules())


def test_folds_by_hand() -> None:
    norm, reader = nn.LayerNorm(2).double(), nn.Linear(2, 1).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([2.0, 3.0]))
        norm.bias.copy_(torch.tensor([1.0, -1.0]))
        reader.weight.copy_(torch.tensor([[5.0, 7.0]]))
        reader.bias.fill_(11.0)
    fold_gain(norm, [reader])
    assert reader.weight.tolist() == [[10.0, 21.0]]
    assert reader.bias.tolist() == [11.0 + 5.0 - 7.0]
    assert norm.weight.tolist() == [1.0, 1.0]
    assert norm.bias.tolist() == [0.0, 0.0]
    table = torch.tensor([[1.0, 3.0], [2.0, 6.0]])
    fold_mean([(table, 1)])
    assert table.tolist() == [[-1.0, 1.0], [-2.0, 2.0]]


def test_rotary_positions_are_relative() -> None:
    for pairing in ("half", "interleaved"):
        part = Attention(8, 1, 1, True, pairing).double()
        q, k = torch.randn(2, 8, dtype=torch.float64, generator=generator())
        Q, K = part.turned(q.expand(6, 8)), part.turned(k.expand(6, 8))
        scores = Q @ K.mT
        for shift in range(5):
            assert torch.allclose(scores.diagonal(shift), scores[0, shift])
        assert torch.allclose(Q.norm(dim=1), q.norm())
        first = [0, 4] if pairing == "half" else [0, 1]  # turned by the position itself
        angle = torch.tensor(2.0).double()
        turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
        assert torch.allclose(Q[2, first], turn @ q[first])


def test_later_ids_are_not_seen() -> None:
    net = transformer()
    ids = torch.randint(11, (1, 8), generator=generator())
    other = ids.clone()
    other[0, 5:] = (other[0, 5:] + 1) % 11
    with torch.no_grad():
        assert torch.allclose(net(ids)[:, :5], net(other)[:, :5], atol=1e-12)


def test_ids_of_few_bits_are_ids_and_no_mask() -> None:
    net = transformer(gain=False)
    client = ObfuscationClient(ObfuscationKey.generate(net.streams(), b"s"), "vocabulary", "vocabulary")
    ids = torch.tensor([[0, 1, 10]])
    for dtype in (torch.uint8, torch.int32):
        assert torch.equal(client.encode(ids.to(dtype)), client.encode(ids))


def test_text_that_a_server_continues_is_decoded() -> None:
    """A sampler on the server chooses renamed ids; the user gets what the original would have said."""
    net = transformer(gain=False)
    key = ObfuscationKey.generate(net.streams(), b"s")
    client, server = ObfuscationClient(key, "vocabulary", "vocabulary"), obfuscate(net, key)
    texts = [torch.tensor([[3, 1, 4]]), client.encode(torch.tensor([[3, 1, 4]]))]
    for _ in range(10):
        with torch.no_grad():
            texts = [torch.cat([t, m(t)[:, -1:].argmax(-1)], 1) for t, m in zip(texts, (net, server), strict=True)]
    assert torch.equal(client.decode(texts[1]), texts[0])
    assert not torch.equal(*texts)


def test_padded_positions_are_masked_by_an_id_that_stays() -> None:
    net = transformer(pad=0, gain=False)
    streams = net.streams()
    with pytest.raises(ModelError, match=r"reads the ids \[0\] itself; pass fixed="):
        obfuscate(net, ObfuscationKey.generate(streams, b"s"))
    key = ObfuscationKey.generate(streams, b"s", fixed={"vocabulary": (0,)})
    model = ObfuscatedModel(net, key, ObfuscationClient(key, "vocabulary", "vocabulary"))
    ids = torch.tensor([[0, 0, 3, 5], [1, 2, 3, 4]])
    with torch.no_grad():
        assert torch.allclose(model(ids), net(ids), atol=1e-11)
        alone = net(torch.tensor([[3, 5]]))
        assert torch.allclose(
            net(ids)[0, 2:], alone[0], atol=1e-12
        )  # rotary positions are relative, and nobody looks at pads


def test_answers_changed_counts_clear_ones_alone() -> None:
    due = torch.tensor([[10.0, 0.0], [0.5, 0.45], [0.0, 1.0]])
    found = torch.tensor([[10.0, 0.0], [0.45, 0.5], [1.0, 0.0]])
    assert changed(due, found) == 2
    assert changed(due, found, 0.01) == 1  # the second is within a hundredth of ten
    assert changed(due, due) == 0


# --- attacks ---------------------------------------------------------------------------------------------------------
def test_rows_are_matched_against_the_best_of_all_permutations() -> None:
    rows = torch.randn(6, 3, generator=generator())
    places = torch.tensor([3, 1, 0, 5, 2, 4])
    found = torch.empty_like(rows)
    found[places] = rows + 0.01 * torch.randn(6, 3, generator=generator(1))
    assert torch.equal(match_rows(rows, found), places)
    with pytest.raises(ShapeError, match="as many rows"):
        match_rows(rows, found[:5])


@pytest.mark.parametrize("options", [{}, {"rope": False}, {"kv_heads": 2}, {"norm": "layer", "pairing": "interleaved"}])
def test_the_recovered_key_undoes_the_server(options) -> None:
    net = transformer(**options).folded()
    key = ObfuscationKey.generate(net.streams(), b"s")
    server = obfuscate(net, key)
    assert isinstance(server, LanguageModel)
    found = recover_key(net, server, key.streams)
    back = obfuscate(server, found.inverse()).state_dict()
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(back[name], tensor, rtol=1e-7, atol=1e-8)


def test_frequencies_by_hand() -> None:
    pairs = bigrams(torch.tensor([0, 1, 0, 1, 1]), 3)
    assert torch.allclose(pairs * 4, torch.tensor([[0, 2, 0], [1, 1, 0], [0, 0, 0]]).double())
    plain, seen = torch.tensor([2, 2, 2, 0, 0, 1]), torch.tensor([0, 0, 0, 1, 1, 2])
    assert match_frequencies(seen, plain, 3).tolist() == [2, 0, 1]
    assert known_names(plain[:4], seen[:4], 3).tolist() == [2, 0, -1]


def test_contexts_find_what_ranks_cannot() -> None:
    """Twelve states of a chain told apart by their neighbours; climbing gets closer, and stays at the truth."""
    g = generator()
    chain = torch.rand(12, 12, generator=g, dtype=torch.float64).pow(6)
    chain /= chain.sum(1, keepdim=True)
    ids = [0]
    for u in torch.rand(40_000, generator=g, dtype=torch.float64):
        ids.append(int((chain[ids[-1]].cumsum(0) < u).sum().clamp(max=11)))
    text, places = torch.tensor(ids), torch.randperm(12, generator=g)
    reference, plain = text[:20_000], text[20_000:]
    seen = places[plain]
    names = match_contexts(seen, reference, 12)
    assert torch.equal(names[places], torch.arange(12))
    assert torch.equal(
        climb(seen, reference, 12, seconds=0.2, generator=g, start=names), names
    )  # no transposition is better

    def likelihood(guess: torch.Tensor) -> float:
        return float((bigrams(seen, 12) * (bigrams(reference, 12) + 1e-6).log()[guess][:, guess]).sum())

    start = names.roll(1)
    climbed = climb(seen, reference, 12, seconds=0.5, generator=g, start=start)
    assert likelihood(start) < likelihood(climbed) <= likelihood(names)
    tried = search(seen, reference, 12, seconds=0.05, generator=g)
    assert sorted(tried.tolist()) == list(range(12))


def test_distributions_are_aligned_where_moments_tell_axes_apart() -> None:
    g = generator()
    axes, turn = O(3).sample(2, generator=g, dtype=torch.float64)
    skew = torch.rand(20_000, 3, generator=g, dtype=torch.float64).log().neg() * torch.tensor([4.0, 2.0, 1.0])
    x = skew @ axes.mT
    decoded = align_distributions(x[10_000:] @ turn.mT, x[:10_000], 3)
    assert float((decoded - x[10_000:]).norm() / x[10_000:].norm()) < 0.1


def test_what_is_sent() -> None:
    x = torch.rand(2, 1, 28, 28, generator=generator())
    assert vectors(x).shape == (2, 196)
    assert float(vectors(x)[0, 0]) == pytest.approx(float(x[0, 0, :2, :2].mean()))
    assert patches(x).shape == (2, 16, 7, 7)
    ids, later = windows(1, 3, 20, 0)
    assert torch.equal(ids[:, 1:], later[:, :-1])
    assert torch.equal(ids, windows(1, 3, 20, 0)[0])


# --- what a key leaves alone -----------------------------------------------------------------------------------------
def test_the_server_computes_as_much() -> None:
    for _, net, key, client, x in cases(0, torch.float32):
        server = obfuscate(net, key)
        assert operations(net, x) == operations(server, client.encode(x)) > 0
        assert {n: t.shape for n, t in net.state_dict().items()} == {n: t.shape for n, t in server.state_dict().items()}
        assert [n for n, _ in net.named_parameters()] == [n for n, _ in server.named_parameters()]


def test_orthogonal_keys_keep_singular_values_and_inner_products() -> None:
    """Those of the embedding and the head, and of all features: the server has them in the clear, and of no other text."""
    _, net, key, client, x = transformer_case("rms, rotary", 0, torch.float64)
    server = obfuscate(net, key)
    assert isinstance(net, LanguageModel)
    assert isinstance(server, LanguageModel)
    for name in ("embed.weight", "head.weight"):
        mine, theirs = (torch.linalg.svdvals(state[name]) for state in (net.state_dict(), server.state_dict()))
        torch.testing.assert_close(theirs, mine, rtol=1e-10, atol=0)
    other = torch.randint(40, x.shape, generator=generator(1))
    with torch.no_grad():
        seen = [f.flatten(0, 1) for f in (net.features(x), server.features(client.encode(x)), net.features(other))]
    assert not torch.allclose(seen[0], seen[1])
    pairs = torch.triu_indices(len(seen[0]), len(seen[0]), 1)
    grams = [(s @ s.mT)[pairs[0], pairs[1]] for s in seen]
    torch.testing.assert_close(grams[1], grams[0], rtol=1e-10, atol=1e-10)
    assert float(torch.corrcoef(torch.stack(grams[1:]))[0, 1].abs()) < 0.2


def test_permutations_keep_all_entries() -> None:
    _, net, _, _, _ = transformer_case("rms, rotary", 0, torch.float32)
    assert isinstance(net, LanguageModel)
    streams = net.streams(Symmetric(32)).only("vocabulary", "residual")
    server = obfuscate(net, ObfuscationKey.generate(streams, b"permutations")).state_dict()
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor.flatten().sort()[0], server[name].flatten().sort()[0])
    assert not torch.equal(net.embed.weight, server["embed.weight"])


def test_gates_allow_signs_too() -> None:
    """The second branch of a gated unit times any numbers, what reads it divided by them."""
    g = generator()
    x, gate, up, down = (torch.randn(s, generator=g, dtype=torch.float64) for s in ((50, 8), (16, 8), (16, 8), (8, 16)))
    factors = torch.randn(16, generator=g, dtype=torch.float64)
    gated = nn.functional.silu(x @ gate.mT)
    due, found = (gated * (x @ (f[:, None] * up).mT) @ (down / f).mT for f in (torch.ones_like(factors), factors))
    torch.testing.assert_close(found, due, rtol=1e-10, atol=1e-10)


def test_each_id_once_gives_the_vocabulary() -> None:
    places = Symmetric(96).sample(1, generator=generator())[0]
    text = torch.randperm(96, generator=generator(1))
    assert torch.equal(known_names(text, places[text], 96)[places], torch.arange(96))


def test_nearest_by_inner_products() -> None:
    """Of each feature that of another text with the largest cosine; what follows both is compared."""
    turn = O(2).sample(1, generator=generator(), dtype=torch.float64)[0]
    features = torch.tensor([[[1.0, 0.0], [1.0, 0.1]], [[0.0, 3.0], [5.0, 1.0]]], dtype=torch.float64)
    assert nearest_elsewhere(features).tolist() == [3, 3, 1, 1]
    assert nearest_elsewhere(features @ turn.mT).tolist() == [3, 3, 1, 1]


# --- what is refused -------------------------------------------------------------------------------------------------
def test_keys_that_do_not_commute_are_refused_and_would_change_the_answer() -> None:
    x = torch.zeros(1, 4).double()
    layers = {nn.ReLU(): "Monomial", nn.GELU(): "Symmetric", nn.LayerNorm(6): "Monomial", nn.RMSNorm(6): "Monomial"}
    for middle, allowed in layers.items():
        net = nn.Sequential(nn.Linear(4, 6), middle, nn.Linear(6, 3)).double().eval()
        with pytest.raises(SymmetryError, match=rf"O\(6\) does not commute .*'0', which allow {allowed}\(6\)"):
            obfuscated_streams(net, x, groups={"0": O(6)})
    assert other_keys_do_not_commute(Run()) > 0.01


def test_smaller_groups_are_taken() -> None:
    x = torch.randn(5, 4).double()
    for net, group in (
        (small(), Symmetric(6)),
        (nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)), Symmetric(6)),
        (nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3)), O(6)),
        (nn.Sequential(nn.Linear(4, 6), nn.RMSNorm(6, elementwise_affine=False), nn.Linear(6, 3)), Hyperoctahedral(6)),
    ):
        net = net.double().eval()
        streams = obfuscated_streams(net, x, input=GLPlus(4), groups={"0": group})
        assert streams.streams[0].group == group
        key = ObfuscationKey.generate(streams, b"s")
        assert torch.allclose(ObfuscatedModel(net, key, ObfuscationClient(key, output=None))(x), net(x))


def test_residual_keys_of_transformers() -> None:
    assert transformer(gain=False).streams().only("residual").group == O(16)
    layer = transformer(norm="layer", gain=False).streams().only("residual").group
    assert layer == Stabilizer(O(16), torch.ones(16))
    one = torch.ones(16, dtype=torch.float64)
    g = layer.sample(1, generator=generator(), dtype=torch.float64)[0]
    assert torch.allclose(layer.linear(g) @ one, one)
    permuted = transformer(norm="layer", gain=False).streams(Symmetric(16))
    key = ObfuscationKey.generate(permuted, b"s")
    ids = torch.randint(11, (2, 6), generator=generator())
    net = transformer(norm="layer", gain=False)
    model = ObfuscatedModel(net, key, ObfuscationClient(key, "vocabulary", "vocabulary"))
    with torch.no_grad():
        assert torch.allclose(model(ids), net(ids), atol=1e-11)


class Quantised(nn.Module):
    """A layer whose weights are bytes, before ReLU and an ordinary layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Buffer(torch.randint(-100, 100, (6, 4), generator=generator(), dtype=torch.int8))
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(torch.relu(x @ (self.weight.to(x) / 100).mT))

    def streams(self, group) -> WeightStreams:
        return WeightStreams.declare(self, [Stream("units", group, (Port("weight", 0), Port("last.weight", 1, "in")))])


def test_quantised_weights_are_renamed_and_nothing_else() -> None:
    net, x = Quantised().eval(), torch.randn(5, 4, generator=generator())
    server = obfuscate(net, ObfuscationKey.generate(net.streams(Symmetric(6)), b"s"))
    assert not torch.equal(server.weight, net.weight)
    with torch.no_grad():
        assert torch.allclose(server(x), net(x), atol=1e-6)
    for group in (O(6), Monomial(6)):
        with pytest.raises(SymmetryError, match=r"'weight' holds torch.int8: .* rename its units alone"):
            obfuscate(net, ObfuscationKey.generate(net.streams(group), b"s"))


def hooked() -> nn.Module:
    net = small()
    net[0].register_forward_hook(lambda module, given, made: made.mul_(2))
    return net


def key_of(net: nn.Module, *shape: int, **ends) -> ObfuscationKey:
    return ObfuscationKey.generate(obfuscated_streams(net, torch.zeros(1, *shape).double(), **ends), b"s")


def conv() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)).double()


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: key_of(nn.Sequential(nn.Linear(4, 6), nn.Softmax(-1), nn.Linear(6, 3)).double(), 4), ModelError, "Softmax '1'"),
        (lambda: obfuscate(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), key_of(small(), 4)), ShapeError,
         "another architecture: 0.weight, 0.bias, 2.weight differ"),
        (lambda: obfuscate(conv().train(), key_of(conv(), 2, 4, 4)), ModelError, r"'1' normalises by the batch.*model.eval"),
        (lambda: obfuscate(hooked(), key_of(small(), 4)), ModelError, "'0' has hooks"),
        (lambda: key_of(nn.Sequential(nn.ReLU(), nn.Linear(4, 3)).double(), 4, input=O(4)), ModelError, "does not begin with"),
        (lambda: key_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU()).double(), 4, output=Symmetric(3)), ModelError,
         "does not end with"),
        (lambda: key_of(small(), 4, input=O(5)), SymmetryError, "5 units of 1 entries"),
        (lambda: key_of(small(), 4, groups={"7": O(5)}), SymmetryError, "groups names 7; streams are 0"),
        (lambda: ObfuscationKey.generate(key_of(small(), 4).streams, b""), SymmetryError, "secret is empty"),
        (lambda: ObfuscationKey.generate(transformer(gain=False).streams(), b"s", fixed={"vocabulary": (11,)}), SymmetryError,
         r"without places \[11\]"),
        (lambda: ObfuscationKey.generate(transformer(gain=False).streams(), b"s", fixed={"residual": (1,)}), SymmetryError,
         r"'residual' has the group O\(16\)"),
        (lambda: ObfuscationKey.generate(key_of(small(), 4).streams, b"s", fixed={"ids": (1,)}), SymmetryError,
         "fixed names ids"),
        (lambda: ObfuscationKey(key_of(small(), 4).streams, torch.zeros(2, 6).double()), SymmetryError, "none of the group"),
        (lambda: ObfuscationClient(key_of(small(), 4)), SymmetryError, "no stream 'input'"),
        (lambda: ObfuscationClient(key_of(small(), 4, input=O(4)), output=None).encode(torch.zeros(2, 5)), ShapeError,
         "axis -1 needs the 4 units of 'input'"),
        (lambda: ObfuscationClient(key_of(small(), 4, input=O(4)), output=None).encode(torch.tensor([1])), SymmetryError,
         "x holds ids, but 'input' has"),
        (lambda: ObfuscationClient(key_of(small(), 4, output=Symmetric(3)), None).decode(torch.tensor([3])), SymmetryError,
         "ids from 3 to 3; 'output' has 0 to 2"),
        (lambda: ObfuscationClient(key_of(small(), 4, output=Symmetric(3)), None).decode(torch.tensor([True, False])), DtypeError,
         "x has dtype torch.bool"),
        (lambda: transformer(rope=False, length=4)(torch.zeros(1, 5, dtype=torch.int64)), ShapeError, "end at length = 4"),
        (lambda: key_of(small(), 4).after(key_of(small(), 4, input=O(4))), SymmetryError, "different streams"),
        (lambda: transformer().streams(), SymmetryError, r"gains of normalisations.*\.folded\(\)"),
        (lambda: transformer(norm="layer", gain=False).streams(O(16)), SymmetryError, r"O\(16\) does not commute with LayerNorm"),
        (lambda: transformer(gain=False).streams(scores=GLPlus(4)), SymmetryError, r"GL\+\(4\) does not commute with rotary"),
        (lambda: transformer(tied=True, gain=False, norm="layer").folded(mean=True), SymmetryError, "a tied head"),
        (lambda: transformer(kv_heads=3), ErlangenError, "kv_heads = 3"),
        (lambda: fold_gain(shifted(), [nn.Linear(4, 2, bias=False)]), ModelError, "has no bias to take"),
        (lambda: WeightStreams.declare(transformer(tied=True, gain=False), [
            Stream("in", Symmetric(11), (Port("embed.weight", 0),)), Stream("out", Symmetric(11), (Port("head.weight", 0),))]),
         SymmetryError, "one tensor with one key"),
    ],
)  # fmt: skip
def test_bad_input(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call()


def shifted() -> nn.LayerNorm:
    norm = nn.LayerNorm(4)
    nn.init.ones_(norm.bias)
    return norm


def test_an_error_does_not_print_the_secret() -> None:
    streams = key_of(small(), 4).streams
    element = torch.full((2, 6), 123.456).double()
    with pytest.raises(SymmetryError) as caught:
        ObfuscationKey(streams, element)
    assert "123.4" not in str(caught.value)
    assert "tensor" not in repr(key_of(small(), 4))


def test_scores_may_have_a_smaller_group() -> None:
    net = transformer(gain=False)
    pairs = DirectProduct(CSO(2, scale=0.25), CSO(2, scale=0.25))
    assert net.streams(scores=pairs) == net.streams()
    free = transformer(gain=False, rope=False)
    streams = free.streams(scores=O(4))
    key = ObfuscationKey.generate(streams, b"s")
    ids = torch.randint(11, (2, 6), generator=generator())
    with torch.no_grad():
        model = ObfuscatedModel(free, key, ObfuscationClient(key, "vocabulary", "vocabulary"))
        assert torch.allclose(model(ids), free(ids), atol=1e-11)


def test_classes_of_the_cases_have_moving_statistics() -> None:
    """What is compared must not pass because nothing moves."""
    for case in (perceptron_case(0, torch.float64), convolutions_case(0, torch.float64)):
        _, net, key, client, x = case
        server = obfuscate(net, key)
        with torch.no_grad():
            assert float((server(x) - net(x)).norm() / net(x).norm()) > 0.1
            assert float((client.encode(x) - x).norm() / x.norm()) > 0.1
        moved = [
            not torch.allclose(t, server.state_dict()[n]) for n, t in net.state_dict().items() if t.is_floating_point()
        ]
        assert all(moved)
