"""What undoes an obfuscation: public weights, known inputs, frequencies, inner products, distributions.

Who attacks is the server, honest but curious: it holds the obfuscated weights and sees all that it computes. In addition it may
have the public weights (`match_rows`, `recover_key`), some inputs in clear (`known_vectors`, `known_names`), or text or data of
the same kind (`match_frequencies`, `match_contexts`, `align_distributions`). `search` and `climb` are those of the vendor's note.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator

import torch
from scipy.optimize import linear_sum_assignment
from torch import Generator, Tensor, nn

from erlangen.actions import WeightStreams
from erlangen.errors import ShapeError
from erlangen.geometry import procrustes
from erlangen.groups import Wreath
from erlangen.systems.learning.equivariant_encryption._transformer import Attention, Block, Gated, LanguageModel
from erlangen.systems.learning.equivariant_encryption.method import ObfuscationKey


# --- public weights --------------------------------------------------------------------------------------------------
def match_rows(public: Tensor, found: Tensor) -> Tensor:
    """Places ``[n]`` of public rows among those found, ``[n, k]`` both, by the least sum of squared distances."""
    if public.shape != found.shape:
        raise ShapeError(f"public has shape {tuple(public.shape)} and found {tuple(found.shape)}; give as many rows")
    far = torch.cdist(public.double(), found.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    nearest = far.argmin(1)
    if len(nearest.unique()) == len(nearest):  # no assignment has a smaller sum than that of the nearest of each
        return nearest
    return torch.as_tensor(linear_sum_assignment(far.numpy())[1])


def row_signs(*weights: Tensor) -> Tensor:
    """What no orthogonal key of the columns changes: norms of rows, entries of vectors; ``[n, weights]``."""
    return torch.stack([w.detach().double() if w.ndim == 1 else w.detach().double().norm(dim=1) for w in weights], 1)


def unscaled_signs(weight: Tensor, bias: Tensor) -> Tensor:
    """What neither an orthogonal key of the columns nor positive factors of the rows change: bias over norm, ``[n, 1]``."""
    return (bias.detach().double() / weight.detach().double().norm(dim=1))[:, None]


def recover_key(public: LanguageModel, server: LanguageModel, streams: WeightStreams) -> ObfuscationKey:
    """The key that takes the public model to the server's, stream by stream, with residual keys from O(d) or its subgroups.

    Ids and gated units by norms of rows and by biases, the residual key by Procrustes on all of their rows, heads by how well
    one matrix takes the values of one to those of another; what remains is least squares.
    """
    signs = [row_signs(m.embed.weight, m.head.weight, m.head.bias) for m in (public, server)]
    names = match_rows(*signs)
    keys = streams.keys(ObfuscationKey.identity(streams).element)
    keys["vocabulary"] = names
    rows = [[m.embed.weight, m.head.weight] for m in (public, server)]
    rows[1] = [weight[names] for weight in rows[1]]
    for mine, theirs in zip(_blocks(public), _blocks(server), strict=True):
        gates = mine.gated.gate, theirs.gated.gate
        places = match_rows(*(row_signs(gate.weight, gate.bias) for gate in gates))
        rows[0].append(gates[0].weight)
        rows[1].append(gates[1].weight[places])
    keys["residual"] = procrustes(*(torch.cat(side).detach().double() for side in rows))
    known = ObfuscationKey(streams, streams.joined(keys))
    state = {name: t.detach().double() for name, t in server.state_dict().items()}
    bare = streams.act(known.inverse().element, state)
    half = copy.deepcopy(server).double()
    half.load_state_dict(bare)
    for i, (mine, theirs) in enumerate(zip(_blocks(public), _blocks(half), strict=True)):
        keys[f"gated.{i}"] = _gated_key(mine.gated, theirs.gated)
        group = streams.only(f"heads.{i}").group
        assert isinstance(group, Wreath)
        keys[f"heads.{i}"] = _heads_key(group, mine.attention, theirs.attention)
    return ObfuscationKey(streams, streams.joined(keys))


def _blocks(model: LanguageModel) -> list[Block]:
    return [block for block in model.blocks if isinstance(block, Block)]


def _gated_key(mine: Gated, theirs: Gated) -> Tensor:
    places = match_rows(_rows(mine.gate), _rows(theirs.gate))
    mine_up, found = _rows(mine.up), _rows(theirs.up)[places]
    factors = (mine_up * found).sum(1) / mine_up.square().sum(1)
    return torch.stack([places.double(), factors])


def _heads_key(group: Wreath, mine: Attention, theirs: Attention) -> Tensor:
    n, w = mine.kv_heads, mine.width
    values = [_rows(m.v).unflatten(0, (n, w)) for m in (mine, theirs)]
    fits = values[1][None] @ torch.linalg.pinv(values[0])[:, None]  # [mine, theirs, w, w]
    misses = (fits @ values[0][:, None] - values[1][None]).square().sum((-2, -1))
    places = torch.as_tensor(linear_sum_assignment(misses.numpy())[1])
    mixes = fits[torch.arange(n), places]
    order = torch.tensor(mine.order())
    keys = [_rows(m.k).unflatten(0, (n, w))[:, order] for m in (mine, theirs)]  # keys move by the inverse transpose
    moved = torch.linalg.inv(_least_squares(keys[0], keys[1][places])).mT
    if not mine.rope:
        scores = moved.flatten(1)
    else:
        keys_by_pair = [k.unflatten(1, (-1, 2)).flatten(0, 1) for k in (keys[0], keys[1][places])]
        pair = torch.linalg.inv(_least_squares(*keys_by_pair)).mT
        scores = pair.unflatten(0, (n, -1)).flatten(1)
    return group.join(places, torch.cat([scores, mixes.flatten(1)], 1))


def _least_squares(a: Tensor, b: Tensor) -> Tensor:
    """The matrices that take ``[..., w, k]`` a to b."""
    return b @ torch.linalg.pinv(a)


def _rows(layer: nn.Linear) -> Tensor:
    """Weight and bias side by side, float64."""
    return torch.cat([layer.weight.detach(), layer.bias.detach()[:, None]], 1).double()


# --- known inputs ----------------------------------------------------------------------------------------------------
def known_vectors(plain: Tensor, seen: Tensor) -> Tensor:
    """The orthogonal key ``[d, d]`` of vectors ``[n, d]`` known in clear and as the server sees them; exact from n = d on."""
    return procrustes(plain.double(), seen.double())


def known_names(plain: Tensor, seen: Tensor, n: int) -> Tensor:
    """Plain ids ``[n]`` of the ids that the server sees, from a text known both ways; -1 for those that did not occur."""
    names = torch.full((n,), -1)
    names[seen] = plain
    return names


# --- statistics of texts ---------------------------------------------------------------------------------------------
def bigrams(ids: Tensor, n: int) -> Tensor:
    """Frequencies ``[n, n]`` of pairs of neighbours."""
    counts = torch.bincount(ids[:-1] * n + ids[1:], minlength=n * n).double()
    return (counts / counts.sum()).view(n, n)


def match_frequencies(seen: Tensor, reference: Tensor, n: int) -> Tensor:
    """Plain ids ``[n]`` guessed for the ids that the server sees: the i-th most frequent is the i-th of a reference text."""
    by_rank = [torch.bincount(ids, minlength=n).argsort(descending=True, stable=True) for ids in (seen, reference)]
    names = torch.empty(n, dtype=torch.int64)
    names[by_rank[0]] = by_rank[1]
    return names


def match_contexts(seen: Tensor, reference: Tensor, n: int, *, rounds: int = 30) -> Tensor:
    """As `match_frequencies`, then refined: ids are alike whose neighbours, renamed by the last guess, are alike.

    Similarity is the inner product of square roots of frequencies of pairs, to the left and to the right; the best assignment is
    the next guess.
    """
    mine, theirs = bigrams(seen, n).sqrt(), bigrams(reference, n).sqrt()
    names = match_frequencies(seen, reference, n)
    for _ in range(rounds):
        back = names.argsort()
        alike = mine[:, back] @ theirs.mT + mine.mT[:, back] @ theirs
        better = torch.as_tensor(linear_sum_assignment(alike.numpy(), maximize=True)[1])
        if torch.equal(better, names):
            break
        names = better
    return names


def _likelihoods(seen: Tensor, reference: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Counts of pairs that the server sees, and logarithms of smoothed frequencies of the reference."""
    theirs = bigrams(reference, n)
    return bigrams(seen, n), (theirs + 1e-6).log()


def search(seen: Tensor, reference: Tensor, n: int, *, seconds: float, generator: Generator) -> Tensor:
    """Random permutations for some seconds of processor time; the one under which pairs are most likely."""
    mine, logs = _likelihoods(seen, reference, n)
    best, names = -float("inf"), torch.arange(n)
    for _ in _until(seconds):
        trial = torch.randperm(n, generator=generator)
        score = float((mine * logs[trial][:, trial]).sum())
        if score > best:
            best, names = score, trial
    return names


def climb(
    seen: Tensor, reference: Tensor, n: int, *, seconds: float, generator: Generator, start: Tensor | None = None
) -> Tensor:
    """Transpositions of a random permutation, or of `start`, that make pairs likelier, for some seconds of processor time."""
    mine, logs = _likelihoods(seen, reference, n)
    names = torch.randperm(n, generator=generator) if start is None else start
    best = float((mine * logs[names][:, names]).sum())
    for _ in _until(seconds):
        i, j = torch.randint(n, (2,), generator=generator).tolist()
        trial = names.clone()
        trial[i], trial[j] = names[j], names[i]
        score = float((mine * logs[trial][:, trial]).sum())
        if score > best:
            best, names = score, trial
    return names


def _until(seconds: float) -> Iterator[None]:
    begin = time.process_time()
    yield
    while time.process_time() - begin < seconds:
        yield


# --- statistics of vectors -------------------------------------------------------------------------------------------
def nearest_elsewhere(features: Tensor) -> Tensor:
    """Of each vector of texts ``[B, T, d]`` the one of another text with the largest cosine: numbers ``[B * T]``."""
    x = nn.functional.normalize(features.double(), dim=-1).flatten(0, 1)
    text = torch.arange(len(features)).repeat_interleave(features.shape[1])
    return (x @ x.mT).masked_fill(text[:, None] == text, -torch.inf).argmax(1)


def align_distributions(seen: Tensor, reference: Tensor, components: int, *, moments: bool = True) -> Tensor:
    """Vectors ``[n, d]`` decoded without any pair: principal axes of what the server sees laid on those of reference data.

    Args:
        seen: vectors under an orthogonal key.
        reference: other vectors of the same kind, in clear.
        components: how many axes are used; the rest is lost.
        moments: signs of axes by third moments; by chance without.
    """
    mean = [x.double().mean(0) for x in (seen, reference)]
    centred = [x.double() - m for x, m in zip((seen, reference), mean, strict=True)]
    axes = [torch.linalg.eigh(x.mT @ x)[1].flip(1)[:, :components] for x in centred]
    parts = [x @ a for x, a in zip(centred, axes, strict=True)]
    flips = [p.pow(3).mean(0).sign() if moments else torch.ones(components).double() for p in parts]
    return (parts[0] * (flips[0] * flips[1])) @ axes[1].mT + mean[1]
