"""The mirror at the plane of x and z: of states, of what is observed, of torques, and a policy that keeps it.

A mirror exchanges left and right limbs. Places and velocities are reflected; angular velocities, as all pseudovectors, are
reflected and reversed; hinges about the x and z axes of limbs turn the other way. It is no symmetry of the network, which treats
angles as scalars that stay, but the mean of the policy and its mirror image has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from erlangen.errors import DataError
from erlangen.simulate import LimbedBody
from erlangen.simulate.limbs import State
from erlangen.systems.motion.sgrl._observations import Observed

MIRROR = (1.0, -1.0, 1.0)
"""The diagonal of the reflection."""

SIGNS = (-1.0, 1.0, -1.0)
"""Of angles, rates and torques of the three hinges, and of the spin in the torso's own axes."""


def partners(body: LimbedBody) -> list[int]:
    """For every limb the one that a mirror puts in its place; itself where the limb lies in the plane.

    Raises:
        DataError: a limb has no partner: the body is not the same on both sides.
    """
    found = [0]
    for i, limb in enumerate(body.limbs, 1):
        for k, other in enumerate(body.limbs, 1):
            above = limb.parent < len(found) and found[limb.parent] == other.parent
            same = (limb.kind, limb.radius, limb.friction, limb.ranges) == (
                other.kind,
                other.radius,
                other.friction,
                other.ranges,
            )
            flips = all(_flip(a) == b for a, b in ((limb.start, other.start), (limb.end, other.end)))
            even = all(low == -high for low, high in (limb.ranges[0], limb.ranges[2]))
            if above and same and flips and even:
                found.append(k)
                break
        else:
            raise DataError(f"limb {i} ({limb.kind}) has no mirror image; the body is not the same on both sides")
    return found


def _flip(place: tuple[float, float, float]) -> tuple[float, float, float]:
    x, y, z = place
    return (x, 0.0 - y, z)


def mirrored_state(body: LimbedBody, state: State) -> State:
    """The mirror images of states."""
    flip, signs = (torch.tensor(one, dtype=torch.float64) for one in (MIRROR, SIGNS))
    index = torch.tensor(partners(body)[1:]) - 1
    hinges = {name: (state[name].unflatten(1, (-1, 3))[:, index] * signs).flatten(1) for name in ("angles", "rates")}
    axes = -state["axes"] * flip * signs[:, None]
    return {
        "position": state["position"] * flip,
        "velocity": state["velocity"] * flip,
        "axes": axes,
        "spin": state["spin"] * signs,
        **hinges,
    }


def mirrored(x: Observed, limbs: Sequence[int]) -> Observed:
    """The mirror image of what is observed; codes of limbs stay."""
    index = torch.tensor(limbs, device=x["vectors"].device)
    flip, signs = (x["vectors"].new_tensor(one) for one in (MIRROR, SIGNS))
    kinds = x["vectors"].new_tensor([1.0, 1.0, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0])[:, None]  # spin, and the axis y
    scalars = x["scalars"][:, index]
    angles, share, low, high, rest = scalars.split([3, 3, 3, 3, 5], -1)
    other = signs < 0
    there = (torch.arange(len(limbs), device=index.device) > 0)[:, None]  # the torso's are no angles
    turn = other & there
    share = torch.where(turn, 1 - share, share)
    low, high = torch.where(turn, 1 - high, low), torch.where(turn, 1 - low, high)
    return x | {
        "vectors": x["vectors"][:, index] * flip * kinds,
        "directions": x["directions"] * flip,
        "scalars": torch.cat([angles * signs, share, low, high, rest], -1),
    }


def mirrored_action(action: Tensor, limbs: Sequence[int]) -> Tensor:
    """The mirror images of torques ``[B, limbs, 3]``."""
    return action[:, torch.tensor(limbs, device=action.device)] * action.new_tensor(SIGNS)


class BothSides(nn.Module):
    """The mean of a policy and its mirror image, for a body whose `partners` are given."""

    def __init__(self, policy: nn.Module, limbs: Sequence[int]) -> None:
        super().__init__()
        self.policy, self.limbs = policy, list(limbs)

    def forward(self, x: Observed) -> Tensor:
        """Torques ``[B, limbs, 3]``."""
        image = self.policy(mirrored(x, self.limbs))
        return (self.policy(x) + mirrored_action(image, self.limbs)) / 2
