"""Six attacks on obfuscated models that are trained here."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn

from erlangen.data import CHARACTERS, common_words, library_text, word_ids, words
from erlangen.groups import Symmetric
from erlangen.measure import accuracy
from erlangen.survey import Part, Rival, Run, Split, Training, compare, sweep
from erlangen.systems.learning.equivariant_encryption._attacks import (
    align_distributions,
    climb,
    known_names,
    known_vectors,
    match_contexts,
    match_frequencies,
    match_rows,
    nearest_elsewhere,
    recover_key,
    row_signs,
    search,
    unscaled_signs,
)
from erlangen.systems.learning.equivariant_encryption._transformer import LanguageModel
from erlangen.systems.learning.equivariant_encryption.data import (
    REFERENCE,
    USER,
    Budget,
    Models,
    characters,
    language_model,
    percent_right,
    perceptron,
    windows,
)
from erlangen.systems.learning.equivariant_encryption.method import obfuscate
from erlangen.systems.learning.equivariant_encryption.rivals import Decoder, Guess, Source


# --- attack 1: public weights ----------------------------------------------------------------------------------------
def weights_part(run: Run[Budget], models: Models) -> Part:
    """The server has the public weights as well, or those of another model, which is the control."""

    def transformer(same: bool, seed: int) -> Mapping[str, Any]:
        public = models("transformer", seed)
        net = copy.deepcopy(public.model).double()
        server = obfuscate(net, public.key)
        torch.manual_seed(seed + 1000)
        other = language_model(run.budget.width, run.budget.gated, run.budget.layers).double().eval().folded()
        mine = net if same else other
        assert isinstance(mine, LanguageModel)
        assert isinstance(server, LanguageModel)
        places = public.key.of("vocabulary")
        signs = [row_signs(m.embed.weight, m.head.weight, m.head.bias) for m in (mine, server)]
        row = {"share of names": float((match_rows(*signs) == places).double().mean())}
        if same:
            found = recover_key(mine, server, public.key.streams)
            row["error of the key"] = float((found.element - public.key.element).abs().max())
        return row

    def layers(same: bool, seed: int) -> Mapping[str, Any]:
        public = models("perceptron", seed)
        server = public.obfuscated.server
        torch.manual_seed(seed + 1000)
        mine = public.model if same else perceptron().eval()
        a, b = (m.get_submodule("0") for m in (mine, server))
        assert isinstance(a, nn.Linear)
        assert isinstance(b, nn.Linear)
        due = public.key.of("0")[0].long()
        places = match_rows(unscaled_signs(a.weight, a.bias), unscaled_signs(b.weight, b.bias))
        factors = (b.weight.double().norm(dim=1)[places] / a.weight.double().norm(dim=1))[:, None]
        # Where there are fewer units than inputs, their rows determine the key on what they span.
        turn = known_vectors(a.weight.detach() * factors.detach(), b.weight.detach()[places])
        seen = public.client.encode(public.parts.user[0]).double() @ turn
        with torch.no_grad():
            right = percent_right(public.model(seen.float()), public.parts.user[1])
        return {"share of names": float((places == due).double().mean()), "accuracy of what is decoded": right}

    methods: dict[str, Callable[[int], Mapping[str, Any]]] = {
        "transformer": functools.partial(transformer, True),
        "transformer, another model": functools.partial(transformer, False),
        "perceptron": functools.partial(layers, True),
        "perceptron, another model": functools.partial(layers, False),
    }
    table = sweep("public weights", methods, run=run, larger=("share", "accuracy"))
    return table.part(
        table.bound(
            "public-weights-name-all-ids",
            "Trained transformer: share of the ids whose secret name is read off the public weights.",
            table["transformer", "share of names"],
            at_least=1,
        ),
        table.bound(
            "public-weights-open-the-transformer",
            "Trained transformer: largest difference of the key found from the public weights to the true one, in all streams.",
            table["transformer", "error of the key"],
            at_most=1e-6,
        ),
        table.bound(
            "public-weights-name-all-units",
            "Trained perceptron: share of the 128 units of the first layer whose secret place is read off the public weights.",
            table["perceptron", "share of names"],
            at_least=1,
        ),
        table.bound(
            "other-weights-name-no-ids",
            "Transformer: share of the ids whose secret name is read off the weights of an independent model.",
            table["transformer, another model", "share of names"],
            at_most=0.1,
        ),
    )


# --- attack 2: known inputs ------------------------------------------------------------------------------------------
def known_part(run: Run[Budget], models: Models) -> Part:
    """The server knows some inputs in clear: digits against an orthogonal key, text against renamed ids."""

    def pairs(n: int, right: bool, seed: int) -> Mapping[str, Any]:
        public = models("perceptron", seed)
        (known, _), (x, y) = public.parts.reference, public.parts.user
        known, seen = known[:n].double(), public.client.encode(known[:n]).double()
        if not right:  # the same vectors, in an order that belongs to none
            known = known[torch.randperm(len(known), generator=Generator().manual_seed(seed))]
        decoded = public.client.encode(x).double() @ known_vectors(known, seen)
        with torch.no_grad():
            got = percent_right(public.model(decoded.float()), y)
        return {"accuracy of what is decoded": got, "relative error": float((decoded - x).norm() / x.norm())}

    def symbols(n: int, seed: int) -> Mapping[str, Any]:
        public, size = models("transformer", seed), len(CHARACTERS)
        text, later = windows(USER, 2, max(run.budget.symbols), seed)[0]
        names = known_names(text[:n], public.client.encode(text[:n]), size)
        got = names[public.client.encode(later)]
        return {
            "share of the next text": float((got == later).double().mean()),
            "share of ids": float((names >= 0).double().mean()),
        }

    methods: dict[str, Callable[[int], Mapping[str, Any]]] = {
        f"{n} digits": functools.partial(pairs, n, True) for n in (10, 50, 100, 196, 300)
    }
    methods["300 digits, wrong pairs"] = functools.partial(pairs, 300, False)
    methods |= {f"{n} characters": functools.partial(symbols, n) for n in run.budget.symbols}
    table = sweep("known inputs", methods, run=run, larger=("share", "accuracy"))
    return table.part(
        table.beats(
            "known-digits-open-others", "300 digits", "300 digits, wrong pairs", "accuracy of what is decoded",
            statement="Accuracy of the public model on the user's digits, decoded with a key from 300 known digits, over that "
            "with a key from 300 wrong pairs.",
        )
    )  # fmt: skip


# --- attack 3: frequencies -------------------------------------------------------------------------------------------
def frequencies_part(run: Run[Budget]) -> Part:
    """The server sees a text under renamed ids and has another text of the same kind."""
    b = run.budget

    @functools.cache
    def text(kind: str) -> tuple[Tensor, Tensor, int]:
        """The user's and the attacker's, and the number of ids; word 0 stands for all that are not among the frequent ones."""
        if kind == "characters":
            return characters(USER), characters(REFERENCE)[: b.reference], len(CHARACTERS)
        mine, theirs = (words(library_text(part, 3)) for part in (USER, REFERENCE))
        known = common_words(theirs, b.types)
        return word_ids(mine, known), word_ids(theirs, known), b.types + 1

    def method(kind: str, length: int, attack: str, seed: int) -> Mapping[str, Any]:
        whole, reference, n = text(kind)
        g = Generator().manual_seed(7919 * seed + length)
        begin = int(torch.randint(len(whole) - length, (), generator=g))
        plain, places = whole[begin : begin + length], Symmetric(n).sample(1, generator=g)[0]
        seen = places[plain]
        start = time.process_time()
        if attack == "ranks":
            names = match_frequencies(seen, reference, n)
        else:
            if attack == "other names":
                reference = Symmetric(n).sample(1, generator=g)[0][reference]
            names = match_contexts(seen, reference, n)
        spent = max(b.seconds, time.process_time() - start)
        if attack == "search":  # the note's attacks have the same text, and at least the time that contexts took
            names = search(seen, reference, n, seconds=spent, generator=g)
        if attack.startswith("climb"):
            begin_at = match_frequencies(seen, reference, n) if attack == "climb from ranks" else None
            names = climb(seen, reference, n, seconds=spent, generator=g, start=begin_at)
        right, known = names[seen] == plain, plain > 0
        row = {"share of text": float(right.double().mean())}
        if kind == "words":
            row |= {
                "share of known words": float(right[known].double().mean()),
                "other words": float((~known).double().mean()),
            }
        return row | {"share of ids": float((names[places] == torch.arange(n)).double().mean())}

    note = ("search", "climb", "climb from ranks")
    attacks = {"characters": ("contexts", "ranks", *note, "other names"), "words": ("contexts", "ranks")}
    lengths = {"characters": b.symbols, "words": b.tokens}
    methods = {
        f"{attack}, {n} {kind}": functools.partial(method, kind, n, attack)
        for kind in attacks
        for n in lengths[kind]
        for attack in attacks[kind]
    }
    table = sweep("frequencies", methods, run=run, larger=("share",))
    claims = [
        table.bound(
            "contexts-read-characters",
            "Share of 10,000 characters that pairs of neighbours in another text of the kind decode.",
            table["contexts, 10000 characters", "share of text"],
            at_least=0.8,
        ),
        table.bound(
            "other-names-read-nothing",
            "Share of the 96 characters named rightly from 10,000 of them, where the letters of the attacker's text were renamed "
            "at random.",
            table["other names, 10000 characters", "share of ids"],
            at_most=0.1,
        ),
    ]
    for kind in attacks:
        for n in lengths[kind]:
            claims.append(
                table.not_worse(
                    f"contexts-as-good-as-ranks-{n}-{kind}",
                    f"contexts, {n} {kind}",
                    f"ranks, {n} {kind}",
                    "share of text",
                )
            )
    for n in b.symbols:
        rivals = [f"{attack}, {n} characters" for attack in note]
        claims.append(
            table.beats(f"contexts-beat-the-note-{n}-characters", f"contexts, {n} characters", rivals, "share of text")
        )
    return table.part(*claims)


# --- attack 4: inner products ----------------------------------------------------------------------------------------
def products_part(run: Run[Budget], models: Models) -> Part:
    """Which places of the user's texts are followed by the same character, from nothing but inner products of features.

    Renamed ids show where the character itself is the same: the rival is a random place of another text with the same id.
    """

    def method(how: str, seed: int) -> Mapping[str, Any]:
        public, g = models("transformer", seed), Generator().manual_seed(seed)
        ids, later = (part[:50] for part in public.parts.user)
        server, net = public.obfuscated.server, public.model
        assert isinstance(server, LanguageModel)
        assert isinstance(net, LanguageModel)
        with torch.no_grad():
            if how == "inner products":
                found = nearest_elsewhere(server.features(public.client.encode(ids)))
            elif how == "no protection":
                found = nearest_elsewhere(net.features(ids))
            else:
                text = torch.arange(len(ids)).repeat_interleave(ids.shape[1])
                chance = torch.rand(ids.numel(), ids.numel(), generator=g).masked_fill(text[:, None] == text, -2.0)
                if how == "equal ids":  # where no other text has this id, any place
                    chance = chance - (ids.flatten()[:, None] != ids.flatten()).float()
                found = chance.argmax(1)
        return {"share followed alike": float((later.flatten()[found] == later.flatten()).double().mean())}

    names = ("inner products", "no protection", "equal ids", "any place")
    methods = {name: functools.partial(method, name) for name in names}
    table = sweep("inner products", methods, run=run, larger=("share",))
    return table.part(
        table.beats(
            "inner-products-tell-what-follows", "inner products", ["equal ids", "any place"], "share followed alike",
            statement="Share of places in the user's texts that are followed by the same character as the place of another text "
            "whose features have the largest cosine for the server, over that of places with the same id.",
        )
    )  # fmt: skip


# --- attack 5: distributions -----------------------------------------------------------------------------------------
def distributions_part(run: Run[Budget], models: Models) -> Part:
    """The server sees digits under an orthogonal key and has other digits, none of them in pairs."""

    def method(how: str, components: int, seed: int) -> Mapping[str, Any]:
        public = models("perceptron", seed)
        (reference, _), (x, y) = public.parts.reference, public.parts.user
        if how == "other data":  # digits whose pixels were renamed at random
            reference = reference[:, torch.randperm(196, generator=Generator().manual_seed(seed))]
        seen = public.client.encode(x)
        decoded = align_distributions(seen, reference, components, moments=how != "signs by chance")
        with torch.no_grad():
            got = percent_right(public.model(decoded.float()), y)
        lost = (decoded - x).square().sum() / (x - x.mean(0)).square().sum()
        return {"accuracy of what is decoded": got, "share explained": float(1 - lost)}

    names = {
        f"{how}, {n} axes": (how, n) for how in ("third moments", "signs by chance", "other data") for n in (5, 20)
    }
    methods = {name: functools.partial(method, *options) for name, options in names.items()}
    methods |= {"nothing decoded": functools.partial(_undecoded, models)}
    table = sweep("distributions", methods, run=run, larger=("share", "accuracy"))
    claims = [
        table.beats(
            f"distributions-beat-{word}", "third moments, 5 axes", rival, "accuracy of what is decoded",
            statement="Accuracy of the public model on digits decoded along five axes with signs by third moments, over that "
            f"{text}.",
        )
        for word, rival, text in (
            ("chance", "signs by chance, 5 axes", "with signs by chance"),
            ("other-data", "other data, 5 axes", "where the attacker's digits have renamed pixels"),
            ("nothing", "nothing decoded", "on digits as the server sees them"),
        )
    ]  # fmt: skip
    return table.part(*claims)


def _undecoded(models: Models, seed: int) -> Mapping[str, Any]:
    public = models("perceptron", seed)
    x, y = public.parts.user
    seen = public.client.encode(x)
    lost = (seen - x).square().sum() / (x - x.mean(0)).square().sum()
    return {"accuracy of what is decoded": accuracy(public.model, seen, y), "share explained": float(1 - lost)}


# --- attack 6: inversion ---------------------------------------------------------------------------------------------
NOISES = (0.3, 1.0, 3.0)


def inversion_part(run: Run[Budget], models: Models) -> Part:
    """Decoders from the last features to the ids in clear, trained on queries of the reader's own, which anybody may send."""
    b, sizes = run.budget, run.sizes(run.budget.queries)

    def draw(seed: int) -> Split:
        public = models("transformer", seed)
        other = obfuscate(public.model, models.key(public.key.streams, seed, "next session"))
        parts: list[tuple[dict[str, Tensor], Tensor]] = []
        for i, (part, n) in enumerate(zip((REFERENCE, REFERENCE, USER), sizes, strict=True)):
            ids, _ = windows(part, n, b.window, 7 * seed + i)
            encoded = public.client.encode(ids)
            nets = {
                "plain": (public.model, ids),
                "server": (public.obfuscated.server, encoded),
                "other": (other, encoded),
            }
            x: dict[str, Tensor] = {}
            for name, (net, given) in nets.items():
                assert isinstance(net, LanguageModel)
                with torch.no_grad():
                    x[name] = net.features(given).flatten(0, 1)
            x["noise"] = torch.randn(x["plain"].shape, generator=Generator().manual_seed(31 * seed + i))
            parts.append((x, ids.flatten()))
        return Split(*parts)

    def rival(source: Source, noise: float) -> Rival:
        # The head of the seed that torch was given for this model; features of all seeds have the same form.
        return Rival(lambda: Decoder(b.width, len(CHARACTERS), source, noise, _head(models, torch.initial_seed())))

    def measure(model: nn.Module, x: dict[str, Tensor], y: Tensor, generator: Generator) -> Mapping[str, Any]:
        with torch.no_grad():
            row = {"accuracy": percent_right(model(**x), y)}
            if isinstance(model, Decoder):
                agree = model.next_ids(x["plain"], x["noise"]) == model.next_ids(x["plain"], 0 * x["noise"])
                row["answers kept"] = float(agree.double().mean())
        return row

    rivals = {
        "obfuscated": rival("server", 0.0),
        "no protection": rival("plain", 0.0),
        **{f"noise of {noise:g}": rival("plain", noise) for noise in NOISES},
        "key replaced": rival("other", 0.0),
        "most frequent id": Rival(lambda: Guess(len(CHARACTERS)), trains=False, prepare=Guess.prepare),
    }
    training = Training(nn.functional.cross_entropy, b.query_epochs, 256, rates=(1e-2, 3e-2))
    table = compare(
        "inversion", rivals, draw, training, measure, best="accuracy", run=run, larger=("accuracy", "answers")
    )
    return table.part(
        table.beats("inversion-beats-guessing", "obfuscated", "most frequent id", "accuracy"),
        table.not_worse("inversion-as-without-protection", "obfuscated", "no protection", "accuracy", margin=0.01),
        table.beats("a-new-key-ends-the-decoder", "obfuscated", "key replaced", "accuracy"),
    )


def _head(models: Models, seed: int) -> nn.Linear:
    net = models("transformer", seed).model
    assert isinstance(net, LanguageModel)
    return net.head
