"""Equilibrium propagation without symmetric weights: complex nudges, and homeostasis of the Jacobian.

Laborieux and Zenke (ICLR 2024). The states of all layers follow ``u <- W s(u) + b + W_in x`` to rest; then the output is
nudged along the gradient of the loss, and how activities answer is the error that weights learn from.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from erlangen.errors import (
    ErlangenError,
    ErlangenWarning,
    NotConvergedWarning,
    ShapeError,
    UnknownNameError,
    check_integer,
)
from erlangen.solve import asymmetry, fixed_point, nudged_derivative

Activation = Callable[[Tensor], tuple[Tensor, Tensor]]


def _steep_sigmoid(z: Tensor) -> tuple[Tensor, Tensor]:
    s = torch.sigmoid(4 * z - 2)
    return s, 4 * s * (1 - s)  # slope 1 at z = 0.5


def _soft_step(z: Tensor) -> tuple[Tensor, Tensor]:
    low, high = torch.sigmoid(z), torch.sigmoid(z - 2)
    slope = (low - high) / 2 + z / 2 * low * (1 - low) + (1 - z / 2) * high * (1 - high)
    return z / 2 * low + (1 - z / 2) * high, slope


ACTIVATIONS: dict[str, Activation] = {"sigmoid": _steep_sigmoid, "dsilu": _soft_step}
"""Values and slopes. Holomorphic around the real line: ``1/(1 + exp(2 - 4 z))``, ``z/2 sig(z) + (1 - z/2) sig(z - 2)``."""


class EquilibriumNetwork(nn.Module):
    """Layers that drive one another until they rest, and a linear readout of the last one.

    >>> net = EquilibriumNetwork((784, 64, 64, 10), classes=10)
    >>> net(torch.rand(5, 784)).shape
    torch.Size([5, 10])

    `forward` gives the logits at rest, with the exact (implicit) gradient; `Propagation` has the estimates of the paper.

    Args:
        sizes: of the input and of the layers of states, the last of which is the output layer.
        classes: of the readout; None has no readout: the output layer is the answer, for the loss ``|s - y|^2 / 2``.
        wiring: "reciprocal" connects neighbours in both directions; "loop" goes forward, and from the last layer to the first.
        degrees: angle at the start between the weights of a backward connection and the transposed forward ones: 0 is
            symmetric, 90 independent. A loop has no such pairs.
        activation: see `ACTIVATIONS`.
        free_steps: how long states run until they are taken to be at rest.

    Weights are truncated normal with variance 1 over the number of inputs, biases zero; backward connections have none.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        classes: int | None = 10,
        *,
        wiring: Literal["reciprocal", "loop"] = "reciprocal",
        degrees: float = 90.0,
        activation: str = "sigmoid",
        free_steps: int = 150,
    ) -> None:
        super().__init__()
        if len(sizes) < 2:
            raise ErlangenError(f"sizes = {tuple(sizes)}: give the input and at least one layer")
        for size in sizes:
            check_integer("sizes", size, 1)
        if wiring not in ("reciprocal", "loop"):
            raise UnknownNameError(f"wiring = {wiring!r}: choose 'reciprocal' or 'loop'")
        if activation not in ACTIVATIONS:
            raise UnknownNameError(
                f"activation = {activation!r}: choose {' or '.join(map(repr, ACTIVATIONS))}; complex nudges need a "
                "holomorphic one, which ReLU, clamps and absolute values are not"
            )
        self.sizes, self.classes, self.wiring = tuple(sizes), classes, wiring
        self.activation, self.free_steps = activation, check_integer("free_steps", free_steps, 1)
        last = len(sizes) - 1
        forward = [(layer, layer + 1) for layer in range(last)]
        if wiring == "reciprocal":
            self.connections = forward + [(layer + 1, layer) for layer in range(1, last)]
        else:
            self.connections = [*forward, *([(last, 1)] if last > 1 else [])]
        self.weights = nn.ParameterDict(
            {f"{pre}-{post}": _lecun(sizes[post], sizes[pre]) for pre, post in self.connections}
        )
        self.biases = nn.ParameterDict({f"{post}": nn.Parameter(torch.zeros(sizes[post])) for _, post in forward})
        self.readout = None if classes is None else nn.Linear(sizes[-1], check_integer("classes", classes, 2))
        if self.readout is not None:
            with torch.no_grad():
                self.readout.weight.copy_(_lecun(self.readout.out_features, sizes[-1]))
                self.readout.bias.zero_()
        ends = torch.tensor([0, *sizes[1:]]).cumsum(0).tolist()
        self._at = {layer: slice(ends[layer - 1], ends[layer]) for layer in range(1, last + 1)}
        turn = math.radians(degrees)
        with torch.no_grad():
            for ahead, back in self.pairs():
                back.copy_(math.sin(turn) * back + math.cos(turn) * ahead.mT)

    # --- weights -----------------------------------------------------------------------------------------------------
    @property
    def states(self) -> int:
        """Number n of state units."""
        return sum(self.sizes[1:])

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """The weights of forward connections, ``[post, pre]``, each with those of the connection back, ``[pre, post]``."""
        found = [(pre, post) for pre, post in self.connections if post > pre > 0 and (post, pre) in self.connections]
        return [(self.weights[f"{pre}-{post}"], self.weights[f"{post}-{pre}"]) for pre, post in found]

    def matrix(self) -> Tensor:
        """W ``[n, n]``, from all states to all states."""
        some = self.weights["0-1"]
        full = some.new_zeros(self.states, self.states)
        for pre, post in self.connections:
            if pre > 0:
                full[self._at[post], self._at[pre]] = self.weights[f"{pre}-{post}"]
        return full

    def drive(self, x: Tensor) -> Tensor:
        """``W_in x + b [B, n]``, which does not change while states run."""
        if x.ndim < 2 or x[0].numel() != self.sizes[0]:
            raise ShapeError(f"x has shape {tuple(x.shape)}; give [B, ...] with {self.sizes[0]} numbers a sample")
        first = x.flatten(1) @ self.weights["0-1"].mT
        bias = torch.cat([self.biases[f"{layer}"] for layer in self._at])
        return torch.cat([first, first.new_zeros(len(x), self.states - self.sizes[1])], 1) + bias

    # --- dynamics ----------------------------------------------------------------------------------------------------
    def squash(self, u: Tensor) -> Tensor:
        """The activities s(u) of states, real or complex."""
        return ACTIVATIONS[self.activation](u)[0]

    def slope(self, u: Tensor) -> Tensor:
        """The derivative s'(u), unit by unit."""
        return ACTIVATIONS[self.activation](u)[1]

    def answer(self, s: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of activities ``[B, n]``, or the output layer where there is no readout."""
        out = s[..., self._at[len(self.sizes) - 1]]
        if self.readout is None:
            return out
        return out @ self.readout.weight.mT.to(out.dtype) + self.readout.bias.to(out.dtype)

    def pull(self, s: Tensor, y: Tensor) -> Tensor:
        """The gradient of each sample's loss by its activities ``[B, n]``, extended to complex ones without a conjugate."""
        answer, nothing = self.answer(s), torch.zeros_like(s[..., : self.states - self.sizes[-1]])
        if self.readout is None:
            error = answer - y
        else:
            # No maximum of complex numbers is subtracted: it would not be holomorphic; the real part is a constant.
            weight = (answer - answer.real.amax(-1, keepdim=True).detach()).exp()
            error = (weight / weight.sum(-1, keepdim=True) - one_hot(y, weight.shape[-1])) @ self.readout.weight.to(
                s.dtype
            )
        return torch.cat([nothing, error], -1)

    def loss(self, answer: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy of the readout; without one ``|answer - y|^2 / 2``, summed over units."""
        if self.readout is None:
            return (answer - y).square().sum(-1).mean() / 2
        return cross_entropy(answer, y)

    def settle(self, x: Tensor, steps: int | None = None) -> tuple[Tensor, Tensor]:
        """States ``[B, n]`` after the free phase, and what is left of their motion ``[B]``.

        The second is the larger of the motions over one and over two more steps: states that alternate between two values
        seem to rest when only every second step is looked at.
        """
        with torch.no_grad():
            weights, drive = self.matrix().mT, self.drive(x)
            u = torch.zeros_like(drive)
            for _ in range(steps or self.free_steps):
                u = self.squash(u) @ weights + drive
            one = self.squash(u) @ weights + drive
            two = self.squash(one) @ weights + drive
            return u, torch.maximum((one - u).norm(dim=1), (two - u).norm(dim=1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits at rest."""
        u, _ = self.settle(x)
        if torch.is_grad_enabled():
            weights, drive = self.matrix().mT, self.drive(x)
            tol = 1e-5 if u.dtype == torch.float32 else 1e-12
            u = fixed_point(lambda u: self.squash(u) @ weights + drive, u, tol=tol, steps=300, on_unsettled="allow").x
        return self.answer(self.squash(u))

    # --- diagnoses ---------------------------------------------------------------------------------------------------
    @torch.no_grad()
    def angle(self) -> float:
        """Degrees between all backward weights and the transposed forward ones, as one vector each; NaN in a loop."""
        pairs = self.pairs()
        if not pairs:
            return math.nan
        ahead, back = (
            torch.cat([part.flatten() for part in parts]) for parts in zip(*((a.mT, b) for a, b in pairs), strict=True)
        )
        return math.degrees(math.acos(max(-1.0, min(1.0, float(ahead @ back / (ahead.norm() * back.norm()))))))

    @torch.no_grad()
    def jacobian_symmetry(self) -> float:
        """``|S| / (|S| + |A|)`` of the symmetric and antisymmetric parts of the Jacobian W - 1 of the bypassed field."""
        J = self.matrix() - torch.eye(self.states, device=self.weights["0-1"].device, dtype=self.weights["0-1"].dtype)
        even, odd = ((J + sign * J.mT).norm() / 2 for sign in (1, -1))
        return float(even / (even + odd))


def _lecun(out: int, inputs: int) -> nn.Parameter:
    """Truncated at two standard deviations; what is cut off is made up for, so that the variance is 1/inputs."""
    weight = torch.empty(out, inputs)
    return nn.Parameter(nn.init.trunc_normal_(weight, std=1, a=-2, b=2) / (0.87962566103423978 * math.sqrt(inputs)))


# --- the error -------------------------------------------------------------------------------------------------------
def nudged_error(
    net: EquilibriumNetwork, x: Tensor, y: Tensor, u: Tensor, *, beta: float, points: int, steps: int
) -> Tensor:
    """How activities at rest answer to a nudge, ``d s / d beta [B, n]``, from `points` nudges of size `beta` on a circle.

    One point is the difference of two real equilibria; N points on a circle have an error of order beta^N, inside of the
    radius in which states depend on beta analytically (equation 6 of the paper).
    """
    weights, drive = net.matrix().mT, net.drive(x)

    def activity(nudge: complex) -> Tensor:
        real = nudge.imag == 0
        kind = (
            drive.dtype
            if real
            else drive.to(torch.complex64 if drive.dtype == torch.float32 else torch.complex128).dtype
        )
        state, w, d = u.to(kind), weights.to(kind), drive.to(kind)
        for _ in range(steps):
            s = net.squash(state)
            state = s @ w + d + (nudge.real if real else nudge) * net.pull(s, y)
        return net.squash(state)

    with torch.no_grad():
        return nudged_derivative(activity, beta, points)


def exact_nudge(net: EquilibriumNetwork, x: Tensor, y: Tensor, u: Tensor, *, steps: int) -> Tensor:
    """The limit of `nudged_error` for small nudges: the forward derivative of the nudged run at beta = 0."""
    with torch.no_grad():
        weights, drive, v = net.matrix().mT, net.drive(x), torch.zeros_like(u)
        for _ in range(steps):
            s, slope = ACTIVATIONS[net.activation](u)
            v = slope * v
            u, v = s @ weights + drive, v @ weights + net.pull(s, y)
        return net.slope(u) * v


def recurrent_error(net: EquilibriumNetwork, x: Tensor, y: Tensor, u: Tensor, *, steps: int) -> Tensor:
    """Recurrent back-propagation (Almeida 1987, Pineda 1987): ``delta <- D W^T delta + D dL/ds``; W's transpose, not W."""
    with torch.no_grad():
        weights, slope, pull = net.matrix(), net.slope(u), net.pull(net.squash(u), y)
        delta = torch.zeros_like(u)
        for _ in range(steps):
            delta = slope * (delta @ weights + pull)
        return delta


def limits(net: EquilibriumNetwork, y: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """What the two errors tend to with many steps and small nudges, by linear solves: ``(a_EP, a_BP)``, each ``[B, n]``.

    ``a_EP = D (1 - W D)^-1 dL/ds`` has W where the gradient ``a_BP = D (1 - W^T D)^-1 dL/ds`` has its transpose.
    """
    with torch.no_grad():
        W, slope, pull = net.matrix(), net.slope(u), net.pull(net.squash(u), y)
        eye = torch.eye(net.states, dtype=W.dtype, device=W.device)
        ep, bp = (slope * torch.linalg.solve(eye - A * slope[:, None, :], pull) for A in (W, W.mT))
        return ep, bp


def online_error(
    net: EquilibriumNetwork, x: Tensor, y: Tensor, *, beta: float, points: int = 4, turns: int = 5, steps: int = 60
) -> tuple[Tensor, Tensor]:
    """States and error without a free phase: the nudge goes round its circle `turns` times, and averages are taken.

    Every one of ``points * turns`` positions is held for `steps` steps; the averages of ``Re u`` and ``Re s(u) / beta_k`` stand
    for the states at rest and for the error.
    """
    kind = torch.complex64 if x.dtype == torch.float32 else torch.complex128
    with torch.no_grad():
        weights, drive = net.matrix().mT.to(kind), net.drive(x).to(kind)
        u = torch.zeros_like(drive)
        rest, error = u.real.clone(), u.real.clone()
        for k in range(points * turns):
            nudge = beta * complex(math.cos(2 * math.pi * k / points), math.sin(2 * math.pi * k / points))
            for _ in range(steps):
                s = net.squash(u)
                u = s @ weights + drive + nudge * net.pull(s, y)
            rest, error = rest + u.real, error + (net.squash(u) / nudge).real
        return rest / (points * turns), error / (points * turns)


# --- training --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Propagation:
    """``objective(net, x, y)`` for `erlangen.fit`, whose gradient is the one the paper trains with.

    >>> net, how = EquilibriumNetwork((784, 32, 10)), Propagation("nudge", points=2, beta=0.05)
    >>> how(net, torch.rand(4, 784), torch.tensor([3, 1, 4, 1])).backward()
    >>> net.weights["0-1"].grad.shape
    torch.Size([32, 784])

    Attributes:
        error: "nudge" is equilibrium propagation, "recurrent" back-propagates through the equilibrium, "time" back-propagates
            through `steps` more free steps.
        points: N nudges on a circle; 0 takes the exact derivative at beta = 0.
        beta: size of a nudge.
        steps: of a nudged phase, of recurrent back-propagation, or back through time.
        homeostasis: weight of ``|J - J^T|^2 / 2`` over the number of units, J the Jacobian of the field of activities.
        probes: random vectors per sample that estimate it.
        on_unsettled: "warn" of batches with samples that are far from rest, or "allow" them.
    """

    error: Literal["nudge", "recurrent", "time"] = "nudge"
    points: int = 0
    beta: float = 0.05
    steps: int = 20
    homeostasis: float = 0.0
    probes: int = 5
    on_unsettled: Literal["warn", "allow"] = "warn"

    def __post_init__(self) -> None:
        if self.error not in ("nudge", "recurrent", "time"):
            raise UnknownNameError(f"error = {self.error!r}: choose 'nudge', 'recurrent' or 'time'")
        if self.on_unsettled not in ("warn", "allow"):
            raise UnknownNameError(f"on_unsettled = {self.on_unsettled!r}: choose 'warn' or 'allow'")
        for name, least in (("points", 0), ("steps", 1), ("probes", 1)):
            check_integer(name, getattr(self, name), least)
        if not self.beta > 0:
            raise ErlangenError(f"beta = {self.beta}: give a positive number; points=0 is the limit of small nudges")
        if self.homeostasis < 0:
            raise ErlangenError(f"homeostasis = {self.homeostasis}: give a weight that is not negative")
        if self.error == "nudge" and self.points == 1 and self.beta > 0.1:
            warnings.warn(
                f"one nudge of beta = {self.beta}: the error of the gradient is of its order; take points=2 or more, or 0",
                ErlangenWarning,
                stacklevel=3,
            )

    def __call__(self, net: EquilibriumNetwork, x: Tensor, y: Tensor) -> Tensor:
        """The mean loss of a batch; its gradient is the estimate."""
        u, motion = net.settle(x)
        if self.on_unsettled == "warn" and bool((motion > 1).any()):
            warnings.warn(
                f"{int((motion > 1).sum())} of {len(motion)} samples are far from rest after {net.free_steps} steps "
                f"(they move by up to {float(motion.max()):.2g}); their error says little",
                NotConvergedWarning,
                stacklevel=2,
            )
        s = net.squash(u)
        if self.error == "time":
            return self._through_time(net, x, y, u) + self._penalty(net, x, s)
        if self.error == "recurrent":
            error = recurrent_error(net, x, y, u, steps=self.steps)
        elif self.points == 0:
            error = exact_nudge(net, x, y, u, steps=self.steps)
        else:
            error = nudged_error(net, x, y, u, beta=self.beta, points=self.points, steps=self.steps)
        # (dF/dtheta)^T a: the force of the resting activities on every unit, weighed by its error.
        force = s @ net.matrix().mT + net.drive(x)
        local = (error * force).sum(1).mean()
        loss = net.loss(net.answer(s), y)  # trains the readout: s is a constant here
        return loss + (local - local.detach()) + self._penalty(net, x, s)

    def _through_time(self, net: EquilibriumNetwork, x: Tensor, y: Tensor, u: Tensor) -> Tensor:
        weights, drive = net.matrix().mT, net.drive(x)
        for _ in range(self.steps):
            u = net.squash(u) @ weights + drive
        return net.loss(net.answer(net.squash(u)), y)

    def _penalty(self, net: EquilibriumNetwork, x: Tensor, s: Tensor) -> Tensor | float:
        if not self.homeostasis:
            return 0.0
        weights, drive = net.matrix().mT, net.drive(x)
        return (
            self.homeostasis * asymmetry(lambda v: v @ weights + drive - v, s, probes=self.probes).mean() / net.states
        )
