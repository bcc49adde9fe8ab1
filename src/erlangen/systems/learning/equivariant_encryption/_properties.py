"""What obfuscation keeps exactly, what does not commute, and what an attacker gets without any statistics."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from erlangen.actions import Port, Stream, WeightStreams
from erlangen.groups import GLPlus, O, Symmetric
from erlangen.measure import relative_change
from erlangen.survey import Run, bound, exact, largest
from erlangen.systems.learning.equivariant_encryption._attacks import (
    known_vectors,
    match_rows,
    recover_key,
    row_signs,
)
from erlangen.systems.learning.equivariant_encryption._transformer import LanguageModel
from erlangen.systems.learning.equivariant_encryption.data import convolutions, perceptron
from erlangen.systems.learning.equivariant_encryption.method import (
    ObfuscatedModel,
    ObfuscationClient,
    ObfuscationKey,
    activation_errors,
    obfuscate,
    obfuscated_streams,
)

TRANSFORMERS: dict[str, dict[str, Any]] = {
    "rms, rotary": {},
    "rms, learned positions": {"rope": False},
    "layer, rotary": {"norm": "layer", "kv_heads": 2},
    "layer, means folded": {"norm": "layer", "rope": False, "mean": True},
    "tied": {"tied": True, "gain": False, "pairing": "interleaved"},
}


# --- models ----------------------------------------------------------------------------------------------------------
def shaken(model: nn.Module) -> nn.Module:
    """Gains, biases and statistics of normalisations away from 1 and 0; in eval mode."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm, nn.RMSNorm)) and module.weight is not None:
            nn.init.uniform_(module.weight, 0.5, 2)
            if not isinstance(module, nn.RMSNorm):
                nn.init.normal_(module.bias)
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


Case = tuple[nn.Module, nn.Module, ObfuscationKey, ObfuscationClient, Tensor]
"""The original, the same function with gains folded, a key, its client, and inputs."""


def perceptron_case(seed: int, dtype: torch.dtype, n: int = 50) -> Case:
    """A perceptron with an orthogonal key of its inputs and renamed classes."""
    torch.manual_seed(seed)
    net, x = shaken(perceptron().to(dtype)), torch.randn(n, 196, dtype=torch.float64).to(dtype)
    streams = obfuscated_streams(net, x[:1], input=O(196), output=Symmetric(10))
    key = ObfuscationKey.generate(streams, f"perceptron {seed}".encode())
    return net, net, key, ObfuscationClient(key), x


def convolutions_case(seed: int, dtype: torch.dtype, n: int = 20) -> Case:
    """Convolutions with batch normalisation, an orthogonal key of the channels of inputs, and renamed classes."""
    torch.manual_seed(seed)
    net, x = shaken(convolutions(8).to(dtype)), torch.randn(n, 16, 7, 7, dtype=torch.float64).to(dtype)
    streams = obfuscated_streams(net, x[:1], input=O(16), output=Symmetric(10))
    key = ObfuscationKey.generate(streams, f"convolutions {seed}".encode())
    return net, net, key, ObfuscationClient(key, axis=1), x


def transformer_case(name: str, seed: int, dtype: torch.dtype, n: int = 4) -> Case:
    """A language model of one of `TRANSFORMERS`, with keys of all its streams."""
    torch.manual_seed(seed)
    options = dict(TRANSFORMERS[name])
    mean = options.pop("mean", False)
    net = LanguageModel(40, 32, 4, 24, 2, **options).to(dtype)
    shaken(net)
    folded = net.folded(mean=mean)
    key = ObfuscationKey.generate(folded.streams(), f"{name} {seed}".encode())
    return net, folded, key, ObfuscationClient(key, "vocabulary", "vocabulary"), torch.randint(40, (n, 12))


def cases(seed: int, dtype: torch.dtype) -> Iterator[Case]:
    """All of them."""
    yield perceptron_case(seed, dtype)
    yield convolutions_case(seed, dtype)
    for name in TRANSFORMERS:
        yield transformer_case(name, seed, dtype)


def deviation(case: Case) -> float:
    """Largest difference of decoded answers to the original's, over the largest of these."""
    original, net, key, client, x = case
    with torch.no_grad():
        due, found = original(x), ObfuscatedModel(net, key, client)(x)
    return float((found - due).abs().max() / due.abs().max())


# --- the same function -----------------------------------------------------------------------------------------------
@exact(tol=1e-10, float32=1e-4, published="identical")
def perceptrons_stay_the_same_function(run: Run[Any], dtype: torch.dtype) -> float:
    """Perceptron with ReLU and tanh: largest difference of decoded to original answers, over the largest answer."""
    return deviation(perceptron_case(run.seed, dtype))


@exact(tol=1e-10, float32=1e-4, published="identical")
def convolutions_stay_the_same_function(run: Run[Any], dtype: torch.dtype) -> float:
    """Convolutions with batch normalisation: largest difference of decoded to original answers, over the largest answer."""
    return deviation(convolutions_case(run.seed, dtype))


@exact(tol=1e-10, float32=1e-4, published="identical")
def transformers_stay_the_same_function(run: Run[Any], dtype: torch.dtype) -> float:
    """Causal language models with RMSNorm and LayerNorm, rotary and learned positions, grouped and tied: largest difference of
    decoded to original answers, over the largest answer."""
    return largest(deviation(transformer_case(name, run.seed, dtype)) for name in TRANSFORMERS)


@exact(tol=1e-10, float32=1e-4)
def every_layer_moves_by_its_key(run: Run[Any], dtype: torch.dtype) -> float:
    """Largest difference of what a layer reads or makes to that of the original under its key, over the largest entry."""
    worst = 0.0
    for _, net, key, client, x in cases(run.seed, dtype):
        worst = largest(worst, *activation_errors(net, obfuscate(net, key), key, x, client.encode(x)).values())
    return worst


@exact(tol=0)
def answers_are_the_same(run: Run[Any]) -> float:
    """How many of 10,000 classes change in single precision where the best two differ by more than 1e-5 of the largest answer."""
    _, net, key, client, x = perceptron_case(run.seed, torch.float32, 10_000)
    with torch.no_grad():
        due, found = net(x), ObfuscatedModel(net, key, client)(x)
    return changed(due, found, 1e-5)


def changed(due: Tensor, found: Tensor, margin: float = 0.0) -> float:
    """How many answers ``[..., classes]`` change whose best two differ by more than `margin` of the largest answer."""
    best = due.topk(2, -1).values
    clear = best[..., 0] - best[..., 1] > margin * due.abs().max()
    return float(((due.argmax(-1) != found.argmax(-1)) & clear).sum())


# --- keys ------------------------------------------------------------------------------------------------------------
@exact(tol=0)
def renamed_ids_come_back(run: Run[Any]) -> float:
    """How many of 1000 random ids are others after they were encoded and decoded."""
    *_, client, _ = transformer_case("rms, rotary", run.seed, torch.float64)
    ids = torch.randint(40, (1000,), generator=run.generator())
    return float((client.decode(client.encode(ids)) != ids).sum())


@exact(tol=1e-12, float32=1e-6)
def mixed_vectors_come_back(run: Run[Any], dtype: torch.dtype) -> float:
    """Relative change of vectors that an orthogonal key encoded and decoded."""
    *_, key, _, x = perceptron_case(run.seed, dtype)
    client = ObfuscationClient(key, "input", "input")
    return relative_change(client.decode(client.encode(x)), x)


@exact(tol=1e-10)
def two_keys_are_their_product(run: Run[Any]) -> float:
    """Largest difference of the weights under one key and then another to those under their product, over the largest weight."""
    worst = 0.0
    for _, net, key, _, _ in cases(run.seed, torch.float64):
        other = ObfuscationKey.generate(key.streams, b"another")
        twice, once = obfuscate(obfuscate(net, key), other), obfuscate(net, other.after(key))
        worst = largest(worst, _apart(twice, once))
    return worst


@exact(tol=1e-10)
def inverse_keys_restore(run: Run[Any]) -> float:
    """Largest difference of the weights under a key and then its inverse to the original ones, over the largest weight."""
    return largest(
        _apart(obfuscate(obfuscate(net, key), key.inverse()), net)
        for _, net, key, _, _ in cases(run.seed, torch.float64)
    )


@exact(tol=0)
def the_identity_changes_no_bit(run: Run[Any]) -> float:
    """How many tensors are not bit for bit the same under the identity key, in single precision."""
    count = 0
    for _, net, key, _, _ in cases(run.seed, torch.float32):
        twin = obfuscate(net, ObfuscationKey.identity(key.streams)).state_dict()
        count += sum(not torch.equal(tensor, twin[name]) for name, tensor in net.state_dict().items())
    return float(count)


def _apart(a: nn.Module, b: nn.Module) -> float:
    pairs = [(t, b.state_dict()[name]) for name, t in a.state_dict().items() if t.is_floating_point()]
    return largest(float((s - t).abs().max() / t.abs().max()) for s, t in pairs)


# --- cost ------------------------------------------------------------------------------------------------------------
def operations(model: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """Multiplications and additions of one call, as torch counts them."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return counter.get_total_flops()


# --- what does not commute -------------------------------------------------------------------------------------------
@bound(at_least=0.01)
def other_keys_do_not_commute(run: Run[Any]) -> float:
    """Relative change of the answer under a key that is refused, the least of: O(d) across ReLU, GELU, LayerNorm and a gain, all
    matrices of a head under rotary positions."""
    errors: list[float] = []
    torch.manual_seed(run.seed)
    x = torch.randn(50, 8, dtype=torch.float64)
    for middle in (nn.ReLU(), nn.GELU(), nn.LayerNorm(8), shaken(nn.RMSNorm(8))):
        net = nn.Sequential(nn.Linear(8, 8), middle, nn.Linear(8, 3)).double().eval()
        ports = (Port("0.weight", 0), Port("0.bias", 0), Port("2.weight", 1, "in"))
        streams = WeightStreams.declare(net, [Stream("0", O(8), ports)])
        server = obfuscate(net, ObfuscationKey.generate(streams, b"refused"))
        with torch.no_grad():
            errors.append(relative_change(server(x), net(x)))
    _, net, _, _, ids = transformer_case("rms, rotary", run.seed, torch.float64)
    assert isinstance(net, LanguageModel)
    net.rope = False  # so that keys of a model without rotary positions are declared for one with them
    streams = net.streams(scores=GLPlus(8)).only("heads.0", "heads.1")
    server = obfuscate(net, ObfuscationKey.generate(streams, b"refused"))
    with torch.no_grad():
        errors.append(relative_change(server(ids), net(ids)))
    return min(errors)


# --- what is undone exactly ------------------------------------------------------------------------------------------
@exact(tol=0)
def public_weights_name_the_units(run: Run[Any]) -> float:
    """How many of 64 permuted units are named wrongly by the norms of their rows, under an orthogonal key of what they read."""
    g = run.generator()
    rows = torch.randn(64, 32, generator=g, dtype=torch.float64)
    places, turn = Symmetric(64).sample(1, generator=g)[0], O(32).sample(1, generator=g, dtype=torch.float64)[0]
    found = torch.empty_like(rows)
    found[places] = rows @ turn.mT
    return float((match_rows(row_signs(rows), row_signs(found)) != places).sum())


@exact(tol=1e-8)
def public_weights_give_the_whole_key(run: Run[Any]) -> float:
    """Largest difference of the recovered key of every stream of a language model to the true one; five kinds of models."""
    worst = 0.0
    for name in TRANSFORMERS:
        _, net, key, _, _ = transformer_case(name, run.seed, torch.float64)
        server = obfuscate(net, key)
        assert isinstance(net, LanguageModel)
        assert isinstance(server, LanguageModel)
        worst = largest(worst, float((recover_key(net, server, key.streams).element - key.element).abs().max()))
    return worst


@exact(tol=1e-10)
def as_many_pairs_as_dimensions_give_the_key(run: Run[Any]) -> float:
    """Largest difference of an orthogonal key found from 16 pairs of vectors of 16 numbers to the true one."""
    g = run.generator()
    x, key = torch.randn(16, 16, generator=g, dtype=torch.float64), O(16).sample(1, generator=g, dtype=torch.float64)[0]
    return float((known_vectors(x, x @ key.mT) - key).abs().max())


@bound(at_most=0.1)
def another_model_gives_no_names(run: Run[Any]) -> float:
    """Share of 40 ids that an independent model names rightly by its norms: what the attack gets without the public weights."""
    _, net, key, _, _ = transformer_case("rms, rotary", run.seed, torch.float64)
    server = obfuscate(net, key)
    shares: list[float] = []
    for seed in itertools.islice(itertools.count(run.seed + 1000), 10):
        _, other, _, _, _ = transformer_case("rms, rotary", seed, torch.float64)
        signs = [row_signs(m.embed.weight, m.head.weight, m.head.bias) for m in (other, server)]  # pyright: ignore
        shares.append(float((match_rows(*signs) == key.of("vocabulary")).double().mean()))
    return sum(shares) / len(shares)


PROPERTIES = (
    perceptrons_stay_the_same_function,
    convolutions_stay_the_same_function,
    transformers_stay_the_same_function,
    every_layer_moves_by_its_key,
    answers_are_the_same,
    renamed_ids_come_back,
    mixed_vectors_come_back,
    two_keys_are_their_product,
    inverse_keys_restore,
    the_identity_changes_no_bit,
    other_keys_do_not_commute,
    public_weights_name_the_units,
    public_weights_give_the_whole_key,
    as_many_pairs_as_dimensions_give_the_key,
    another_model_gives_no_names,
)
