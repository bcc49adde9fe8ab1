"""Pressures of dense networks (Albanese et al. 2022), with replica symmetry and with one step of breaking.

The energy of +-1 spins is minus the sum over patterns and distinct indices of P! / N^(P-1) xi...xi s...s; a retrieved pattern has
-N m^P, and the other K - 1 = alpha N^(P-1) act as a P-spin glass with J^2 = 2 P! alpha. With c(q) = (P J^2/2) q^(P-1) and
h = beta P m^(P-1), A = lim E log Z / N is

    RS     ln 2 + E ln cosh(h + beta z sqrt(c(q))) - beta (P-1) m^P + (beta^2 J^2/4)(1 - P q^(P-1) + (P-1) q^P)
    1RSB   ln 2 + (1/theta) E_1 ln E_2 cosh^theta(g) - beta (P-1) m^P
           + (beta^2 J^2/4)(1 + (P-1)((1-theta) q2^P + theta q1^P) - P q2^(P-1)),  g = h + beta (z1 sqrt(c1) + z2 sqrt(c2 - c1)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from erlangen.errors import ErlangenError, NotConvergedWarning, check_integer
from erlangen.solve import log_cosh, normal_nodes


@dataclass(frozen=True)
class DenseModel:
    """A dense network, or a pure P-spin glass where m = 0, at a temperature.

    >>> model = DenseModel(3, 1.0, 1 / 0.9)
    >>> round(model.pressure_rs(0.0, 0.0) - math.log(2) - model.beta**2 / 4, 12)  # a paramagnet
    0.0

    Args:
        P: bodies in a coupling, at least 2; at P = 2 this is the hard part alone, the SK model, and not Hopfield's.
        J: of the glass, at least 0; see `coupling_of`.
        beta: inverse temperature, above 0.
    """

    P: int
    J: float
    beta: float

    def __post_init__(self) -> None:
        check_integer("P", self.P, 2)
        if not (math.isfinite(self.J) and self.J >= 0):
            raise ErlangenError(f"J = {self.J}: give a number of at least zero")
        if not (math.isfinite(self.beta) and self.beta > 0):
            raise ErlangenError(
                f"beta = {self.beta}: give a number above zero (T = 0: retrieval_capacity, glass_ground_state)"
            )

    def noise(self, q: float) -> float:
        """c(q)."""
        return self.P * self.J**2 / 2 * q ** (self.P - 1)

    def signal(self, m: float) -> float:
        """h = beta P m^(P-1)."""
        return self.beta * self.P * m ** (self.P - 1)

    def nodes(self, variance: float, tilt: float = 0.0) -> tuple[Tensor, Tensor]:
        """A grid of step 0.2 / (beta s), at most 0.1: Gauss-Hermite rules are wrong where tanh is steep.

        A tilt by cosh^theta, theta = `tilt`, moves the weight outwards by theta beta s, and the grid's ends with it.
        """
        if variance <= 0:
            return torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        size = self.beta * math.sqrt(variance)
        step, reach = min(0.1, 0.2 / size), 8.5 + tilt * size
        return normal_nodes(2 * math.ceil(reach / step) + 1, "uniform", reach=reach)

    def pressure_rs(self, m: float, q: float) -> float:
        """A with replica symmetry."""
        P, beta = self.P, self.beta
        z, w = self.nodes(self.noise(q))
        field = self.signal(m) + beta * z * math.sqrt(self.noise(q))
        rest = (beta * self.J) ** 2 / 4 * (1 - P * q ** (P - 1) + (P - 1) * q**P)
        return math.log(2) + float(w @ log_cosh(field)) - beta * (P - 1) * m**P + rest

    def update_rs(self, m: float, q: float) -> tuple[float, float]:
        """E tanh and E tanh^2: a stationary point is a fixed point."""
        z, w = self.nodes(self.noise(q))
        t = torch.tanh(self.signal(m) + self.beta * z * math.sqrt(self.noise(q)))
        return float(w @ t), min(float(w @ t**2), 1.0)  # weights add up to one up to rounding

    def _fields(self, m: float, q1: float, q2: float, theta: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """g ``[n1, n2]``, weights of z1, logarithms of E_2 cosh^theta ``[n1]``, and the tilted weights of z2 ``[n1, n2]``."""
        if not 0 < theta <= 1:
            raise ErlangenError(f"theta = {theta}: give a number above 0, and at most 1")
        if not 0 <= q1 <= q2 <= 1:
            raise ErlangenError(f"q1 = {q1}, q2 = {q2}: give 0 <= q1 <= q2 <= 1")
        c1, c2 = self.noise(q1), self.noise(q2)
        (z1, w1), (z2, w2) = self.nodes(c1), self.nodes(c2 - c1, theta)
        g = self.signal(m) + self.beta * (math.sqrt(c1) * z1[:, None] + math.sqrt(max(c2 - c1, 0)) * z2)
        logs = theta * log_cosh(g) + w2.log()
        total = torch.logsumexp(logs, 1)
        return g, w1, total, torch.exp(logs - total[:, None])

    def pressure(self, m: float, q1: float, q2: float, theta: float) -> float:
        """A with one step of breaking."""
        P, beta = self.P, self.beta
        _, w1, total, _ = self._fields(m, q1, q2, theta)
        rest = 1 + (P - 1) * ((1 - theta) * q2**P + theta * q1**P) - P * q2 ** (P - 1)
        return math.log(2) + float(w1 @ total) / theta - beta * (P - 1) * m**P + (beta * self.J) ** 2 / 4 * rest

    def update(self, m: float, q1: float, q2: float, theta: float) -> tuple[float, float, float]:
        """m = E_1<t>, q1 = E_1<t>^2, q2 = E_1<t^2>, t = tanh g and < > tilted by cosh^theta."""
        g, w1, _, tilted = self._fields(m, q1, q2, theta)
        t = torch.tanh(g)
        mean = (tilted * t).sum(1)
        q1, q2 = float(w1 @ mean**2), float(w1 @ (tilted * t**2).sum(1))
        return float(w1 @ mean), min(q1, 1.0), min(q2, 1.0)

    def solve(
        self,
        m: float,
        q1: float,
        q2: float,
        theta: float,
        *,
        damping: float = 0.5,
        tol: float = 1e-11,
        steps: int = 2000,
    ) -> tuple[float, float, float]:
        """Damped iteration from a start; begin at m = 1 and follow it, since iteration falls to m = 0."""
        import warnings

        x = (m, q1, q2)
        change = math.inf
        for _ in range(steps):
            new = self.update(*x, theta)
            change = max(abs(a - b) for a, b in zip(new, x, strict=True))
            a, b, c = (damping * old + (1 - damping) * fresh for old, fresh in zip(x, new, strict=True))
            x = (a, min(b, c), c)
            if change < tol:
                return x
        warnings.warn(
            f"no fixed point after steps = {steps}: it still moves by {change:.2g}", NotConvergedWarning, stacklevel=2
        )
        return x

    def theta_slope(self, m: float, q1: float, q2: float, theta: float) -> float:
        """dA/dtheta at fixed overlaps, in closed form: zero where theta is extremal."""
        P = self.P
        g, w1, total, tilted = self._fields(m, q1, q2, theta)
        mean = (tilted * log_cosh(g)).sum(1)
        entropy = float(w1 @ (mean / theta - total / theta**2))
        return entropy + (self.beta * self.J) ** 2 / 4 * (P - 1) * (q1**P - q2**P)

    def energy(self, m: float, q1: float, q2: float, theta: float) -> float:
        """-dA/dbeta at a solution, by spin."""
        P = self.P
        return -(m**P) - self.beta * self.J**2 / 2 * (1 - (1 - theta) * q2**P - theta * q1**P)

    def replicon(self, m: float, q1: float, q2: float, theta: float) -> float:
        """Below zero where the solution is unstable against more steps of breaking."""
        P = self.P
        g, w1, _, tilted = self._fields(m, q1, q2, theta)
        fourth = float(w1 @ (tilted * torch.cosh(g.clamp(-170, 170)) ** -4).sum(1))
        return 1 - (self.beta * self.J) ** 2 * P * (P - 1) / 2 * q2 ** (P - 2) * fourth


def coupling_of(alpha: float, P: int) -> float:
    """J of a load alpha = K / N^(P-1): sqrt(2 P! alpha)."""
    return math.sqrt(2 * math.factorial(P) * alpha)


def load_of(K: int, N: int, P: int) -> float:
    """alpha = K / N^(P-1).

    >>> load_of(1920, 40, 4)
    0.03

    Raises:
        ErlangenError: a load above 1: K was meant for another P.
    """
    check_integer("K", K, 1)
    check_integer("N", N, 1)
    alpha = K / N ** (P - 1)
    if alpha > 1:
        raise ErlangenError(
            f"K = {K} is {alpha:.3g} N^(P-1) at N = {N}, P = {P}; loads are of order one, K = alpha N^(P-1)"
        )
    return alpha
