"""What holds of EqMotion exactly, whatever its parameters are."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from erlangen.groups import E
from erlangen.measure import equivariance_error
from erlangen.survey import Run, exact, largest
from erlangen.systems.motion.eqmotion.method import EqMotion, finite_velocity


class Moved(NamedTuple):
    """A network with random parameters, scenes, and 100 motions with shifts of ten units."""

    model: EqMotion
    x: dict[str, Tensor]
    motions: Tensor


def networks(run: Run[Any], dtype: torch.dtype) -> list[Moved]:
    """One in the plane, one in space."""
    made: list[Moved] = []
    for dim in (2, 3):
        generator, group = run.generator(), E(dim)
        pos = torch.randn(4, 6, 10, dim, generator=generator, dtype=torch.float64).cumsum(-2).to(dtype)
        model = EqMotion(10, 7, dim=dim, features=16, channels=16, layers=2, generator=generator).to(dtype).eval()
        g = group.sample(100, generator=generator, dtype=torch.float64)
        g = group.join(group.linear(g), 10 * group.translation(g)).to(dtype)
        made.append(Moved(model, {"pos": pos, "vel": finite_velocity(pos)}, g))
    return made


@exact(tol=1e-12, float32=1e-5)
def motions_exact(run: Run[Any], dtype: torch.dtype) -> float:
    """Largest error of predictions under 100 motions of the plane or of space, random parameters."""
    found = networks(run, dtype)
    return largest(float(equivariance_error(m, None, x, elements=g, reduce="max")) for m, x, g in found)


@exact(tol=1e-12, float32=1e-5)
def guesses_invariant(run: Run[Any], dtype: torch.dtype) -> float:
    """Largest change of the guessed interactions under 100 motions of the plane or of space, random parameters."""

    def change(model: EqMotion, x: dict[str, Tensor], g: Tensor) -> float:
        orbit = model.symmetry.input.act(g[:, None], {key: value[None] for key, value in x.items()})
        return float((model.interactions(orbit) - model.interactions(x)).abs().max())

    with torch.no_grad():
        return largest(change(*found) for found in networks(run, dtype))


@exact(tol=1e-12)
def permutation(run: Run[Any]) -> float:
    """Largest error of predictions and of guessed interactions under a permutation of agents, random parameters."""
    worst = 0.0
    for model, x, _ in networks(run, torch.float64):
        order = torch.randperm(x["pos"].shape[1], generator=run.generator(1))
        mixed = {key: value[:, order] for key, value in x.items()}
        with torch.no_grad():
            base, guess = model(x), model.interactions(x)
            futures = float((model(mixed) - base[:, order]).abs().max() / base.abs().max())
            guesses = float((model.interactions(mixed) - guess[:, order][:, :, order]).abs().max())
        worst = largest(worst, futures, guesses)
    return worst


@exact(tol=1e-3)
def far_away(run: Run[Any]) -> float:
    """Largest error of predictions 1000 units away over their spread, random parameters, in float32."""

    def error(model: EqMotion, x: dict[str, Tensor]) -> float:
        near, far = model(x), model({**x, "pos": x["pos"] + 1000}) - 1000
        return float((far - near).abs().max() / near.std())

    with torch.no_grad():
        return largest(error(model, x) for model, x, _ in networks(run, torch.float32))


PROPERTIES = (motions_exact, guesses_invariant, permutation, far_away)
