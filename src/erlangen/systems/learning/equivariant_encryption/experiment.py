"""What is measured of keyed obfuscation: that nothing changes for the user, what it costs, and six attacks on it."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import stats

from erlangen.measure.cost import median_times
from erlangen.survey import Claim, Part, Result, Run, Sizes, properties, sweep
from erlangen.survey.tables import TOO_SMALL
from erlangen.systems.learning.equivariant_encryption._attack_parts import (
    distributions_part,
    frequencies_part,
    inversion_part,
    known_part,
    products_part,
    weights_part,
)
from erlangen.systems.learning.equivariant_encryption._properties import PROPERTIES, changed, operations
from erlangen.systems.learning.equivariant_encryption.data import Budget, Models, percent_right
from erlangen.systems.learning.equivariant_encryption.method import ObfuscationClient, ObfuscationWarning, obfuscate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BUDGETS = {
    "smoke": Budget(
        1, Sizes(500, 300, 200), 1, 32, 48, 1, 32, Sizes(100, 20, 50), 1, Sizes(60, 20, 20), 1, 3, 4,
        (1_000, 10_000), (1_000,), 50, 100_000, 0.05,
    ),
    "full": Budget(
        3, Sizes(6000, 2000, 1000), 8, 64, 176, 2, 64, Sizes(10_000, 100, 200), 2, Sizes(400, 50, 100), 10, 50, 20,
        (1_000, 10_000, 100_000), (1_000, 10_000, 100_000), 500, 700_000, 2.0,
    ),
    "paper": Budget(
        5, Sizes(6000, 2000, 2000), 20, 128, 512, 4, 64, Sizes(100_000, 1000, 1000), 5, Sizes(4000, 500, 500), 20, 50, 20,
        (1_000, 10_000, 100_000), (1_000, 10_000, 100_000), 1000, 700_000, 60.0,
    ),
}  # fmt: skip


KINDS = ("perceptron", "convolutions", "transformer")


# --- the same function, and what it costs ----------------------------------------------------------------------------
def cost_part(run: Run[Budget], models: Models) -> Part:
    """Trained models in single precision: answers, operations, time; what the server does, and what the client adds."""

    def method(kind: str, seed: int) -> Mapping[str, Any]:
        public = models(kind, seed)
        x, y = public.parts.user
        net, both = public.model, public.obfuscated
        with torch.no_grad():
            due, found = net(x), both(x)
            few, encoded = x[:50], both.client.encode(x[:50])
            calls = {
                "plain": lambda: net(few),
                "server": lambda: both.server(encoded),
                "both": lambda: both(few),
                "a new key": lambda: obfuscate(net, public.key),
            }
            seconds = median_times(calls, run.budget.forwards, warmup=0 if run.dry else 2, clock=time.process_time)
        weights = [sum(p.numel() for p in m.parameters()) for m in (net, both.server)]
        return {
            "accuracy": percent_right(due, y),
            "accuracy, obfuscated": percent_right(found, y),
            "deviation": float((found - due).abs().max() / due.abs().max()),
            "answers changed": changed(due, found),
            "operations, server over plain": operations(both.server, encoded) / operations(net, few),
            "operations, with the client": operations(both, few) / operations(net, few),
            "parameters, server over plain": weights[1] / weights[0],
            "time, server over plain": seconds["server"] / seconds["plain"],
            "time, with the client": seconds["both"] / seconds["plain"],
            "a new key, in calls of 50": seconds["a new key"] / seconds["plain"],
        }

    table = sweep("cost", {kind: functools.partial(method, kind) for kind in KINDS}, run=run)
    claims: list[Claim] = []
    for kind in KINDS:
        name = kind.capitalize()
        claims += [
            table.bound(
                f"trained-{kind}-deviates-by-rounding",
                f"{name}, trained, in single precision: largest difference of decoded answers to those of the original, over the "
                "largest answer.",
                table[kind, "deviation"],
                at_most=1e-4,
                published="identical",
            ),
            table.bound(
                f"{kind}-overhead",
                f"{name}: operations of the client and the server together over those of the original.",
                table[kind, "operations, with the client"],
                at_most=1.001,
                published="latency changes by less than 0.1 %",
            ),
        ]
    return table.part(*claims)


# --- wrong keys ------------------------------------------------------------------------------------------------------
def wrong_keys_part(run: Run[Budget], models: Models) -> Part:
    """Who encodes with a wrong key gets what the original says of inputs under a random key: nothing more, and nothing less."""
    found: dict[str, dict[int, list[float]]] = {"wrong": {}, "scrambled": {}}

    def method(seed: int) -> Mapping[str, Any]:
        public = models("perceptron", seed)
        x, y = public.parts.user
        for rates in found.values():
            rates[seed] = []
        for i in range(2 * run.budget.keys):
            client = ObfuscationClient(models.key(public.key.streams, seed, f"stranger {i}"))
            kind, net = ("wrong", public.obfuscated.server) if i % 2 else ("scrambled", public.model)
            with torch.no_grad():
                answers = client.decode(net(client.encode(x)))
            found[kind][seed].append(percent_right(answers, y))
        return {
            "accuracy": percent_right(public.obfuscated(x).detach(), y),
            "accuracy, wrong keys": sum(found["wrong"][seed]) / run.budget.keys,
            "accuracy, scrambled inputs": sum(found["scrambled"][seed]) / run.budget.keys,
        }

    table = sweep("wrong keys", {"perceptron": method}, run=run)
    a, b = (np.concatenate(list(rates.values())) for rates in found.values())
    moments = [value for rates in (a, b) for value in (rates.mean(), rates.std(ddof=1), len(rates))]
    varies = a.std() + b.std() > 0
    p = float(stats.ttest_ind_from_stats(*moments, equal_var=False).pvalue) if varies else float(a.mean() == b.mean())
    claim = Claim.bound(
        "wrong-keys-are-scrambled-inputs",
        "Perceptron: p-value of a two-sided test, over all seeds, whether wrong keys have another mean accuracy than the "
        "original model on inputs under random keys.",
        measured=p,
        at_least=1e-3,
    )
    return table.part(claim if run.settles else claim.unsettled(TOO_SMALL))


# --- all -------------------------------------------------------------------------------------------------------------
ELSEWHERE = (
    Claim.not_measurable(
        "latency-below-a-thousandth",
        "Time of inference changes by less than a thousandth.",
        published="below 0.1 %",
        reason="operations are the same in number; a thousandth of the time is below the noise of a core that others use too",
    ),
    Claim.not_measurable(
        "keys-by-number",
        "More than 100,000 factorial keys protect the vocabulary.",
        published="100,000 factorial and more",
        reason="a count of keys bounds guessing alone; the attacks measured here read structure and guess no key",
    ),
    Claim.not_measurable(
        "real-frozen-networks",
        "Networks that others trained stay the same function: a sentence encoder of six layers and a detector of speech.",
        published=None,
        reason="their weights would have to be downloaded",
    ),
)


def experiment(run: Run[Budget]) -> Result:
    """Properties, cost, wrong keys, six attacks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ObfuscationWarning)  # what it says is what is measured
        models = Models(run)
        few = replace(run, budget=BUDGETS["smoke"]) if run.dry else run  # in a dry run short texts and few words
        return Result.of(
            properties(run, *PROPERTIES),
            cost_part(few, models),
            wrong_keys_part(few, models),
            weights_part(run, models),
            known_part(few, models),
            frequencies_part(few),
            products_part(run, models),
            distributions_part(run, models),
            inversion_part(run, models),
            Part(claims=ELSEWHERE),
        )


def figure(result: Result) -> Figure:
    """How much of a text under renamed characters the attacks read, by its length."""
    from erlangen import plots

    curves: dict[str, list[tuple[float, float]]] = {}
    for row in result.rows:
        if row["part"] == "frequencies" and str(row["model"]).endswith("characters"):
            attack, length = str(row["model"]).removesuffix(" characters").rsplit(", ", 1)
            curves.setdefault(attack, []).append((float(length), float(str(row["share of text"]))))
    return plots.line(curves, "characters that the server sees", "share of the text decoded", logx=True)
