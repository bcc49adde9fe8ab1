"""What clients do beyond cross-entropy and averaging: seven federated methods, each as its own paper has it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div
from torch.nn.utils import parameters_to_vector, vector_to_parameters


class FedAvg:
    """Nothing is added (McMahan and others 2017). One object serves all clients of a training, one after another.

    Attributes:
        optimizer: of the local steps.
        rates: that are tried first, in place of those of Adam.
    """

    optimizer: type[torch.optim.Optimizer] = torch.optim.Adam
    rates: tuple[float, ...] | None = None

    def begin(self, net: nn.Module, client: int, step: int) -> None:
        """A client has the weights of the server, in round `step`."""
        self.client, self.start = client, weights(net)

    def penalty(self, net: nn.Module, z: Tensor, y: Tensor, logits: Tensor) -> Tensor | float:
        """What is added to the loss of a batch."""
        return 0.0

    def end(self, net: nn.Module, steps: int, rate: float) -> None:
        """After so many local steps; what the network holds then is averaged."""


class FedProx(FedAvg):
    """Half the squared distance to the weights of the server, times `mu` (Li and others 2020)."""

    mu = 0.01

    def penalty(self, net: nn.Module, z: Tensor, y: Tensor, logits: Tensor) -> Tensor:
        """``mu / 2 |w - w_server|^2``."""
        return self.mu / 2 * (parameters_to_vector(net.parameters()) - self.start).square().sum()


class FedOpt(FedAvg):
    """The server goes only this part of the way to the mean (Reddi and others 2021, with gradient descent at the server)."""

    part = 0.5

    def end(self, net: nn.Module, steps: int, rate: float) -> None:
        """The mean of the clients' ways, shortened, is the server's."""
        put(net, self.start + self.part * (weights(net) - self.start))


class FedDyn(FedAvg):
    """Losses that agree with the global one at its minimum (Acar and others 2021).

    Client k adds ``-<h_k, w> + alpha / 2 |w - w_server|^2`` and then takes ``alpha (w - w_server)`` off h_k; the server takes the
    mean of all h_k / alpha off the mean of weights, which each client does here before it answers.
    """

    alpha = 0.5

    def __init__(self) -> None:
        self.slopes: dict[int, Tensor] = {}

    def penalty(self, net: nn.Module, z: Tensor, y: Tensor, logits: Tensor) -> Tensor:
        """Linear and quadratic."""
        w = parameters_to_vector(net.parameters())
        return self.alpha / 2 * (w - self.start).square().sum() - self._slope() @ w

    def end(self, net: nn.Module, steps: int, rate: float) -> None:
        """h_k, and the server's step."""
        slope = self._slope() - self.alpha * (weights(net) - self.start)
        self.slopes[self.client] = slope
        put(net, weights(net) - slope / self.alpha)

    def _slope(self) -> Tensor:
        return self.slopes.get(self.client, torch.zeros_like(self.start))


class Scaffold(FedAvg):
    """Control variates (Karimireddy and others 2020, option II): every gradient is corrected by c - c_k.

    Local steps are plain gradient descent, for which c_k, the way of the client over steps and rate, is its mean gradient.
    """

    optimizer = torch.optim.SGD
    rates = (1e-2, 3e-2, 3e-3, 1e-3)

    def __init__(self) -> None:
        self.controls: dict[int, Tensor] = {}
        self.step = -1

    def begin(self, net: nn.Module, client: int, step: int) -> None:
        """Within a round c is that of the server at its begin."""
        super().begin(net, client, step)
        if step != self.step:
            zero = torch.zeros_like(self.start)
            self.step, self.mean = step, torch.stack([zero] if step == 0 else [*self.controls.values()]).mean(0)
        self.own = self.controls.get(client, torch.zeros_like(self.start))

    def penalty(self, net: nn.Module, z: Tensor, y: Tensor, logits: Tensor) -> Tensor:
        """Linear; its gradient is the correction."""
        return (self.mean - self.own) @ parameters_to_vector(net.parameters())

    def end(self, net: nn.Module, steps: int, rate: float) -> None:
        """c_k."""
        self.controls[self.client] = self.own - self.mean + (self.start - weights(net)) / (steps * rate)


class Moon(FedAvg):
    """Answers are drawn to those of the server, off those of the client's last round (Li and others 2021).

    On logits, as the authors of GGEUR have it: a linear head on frozen embeddings has nothing before them that is trained.
    """

    mu, temperature = 1.0, 0.5

    def __init__(self) -> None:
        self.last: dict[int, nn.Module] = {}

    def begin(self, net: nn.Module, client: int, step: int) -> None:
        """Keep the server's network; before a client's first round it is also its last one."""
        super().begin(net, client, step)
        self.sent = copy.deepcopy(net)

    def penalty(self, net: nn.Module, z: Tensor, y: Tensor, logits: Tensor) -> Tensor:
        """Cross-entropy of the choice between both, by cosines."""
        with torch.no_grad():
            others = [other(z) for other in (self.sent, self.last.get(self.client, self.sent))]
        near = torch.stack([cosine_similarity(logits, other) for other in others], 1) / self.temperature
        return self.mu * cross_entropy(near, torch.zeros_like(y))

    def end(self, net: nn.Module, steps: int, rate: float) -> None:
        """The last round is this one now."""
        self.last[self.client] = copy.deepcopy(net)


class FedNTD(FedAvg):
    """Distils from the server what it says of all classes but the true one (Lee and others 2022)."""

    weight, temperature = 0.5, 1.0

    def begin(self, net: nn.Module, client: int, step: int) -> None:
        """Keep the server's network."""
        super().begin(net, client, step)
        self.sent = copy.deepcopy(net)

    def penalty(self, net: nn.Module, z: Tensor, y: Tensor, logits: Tensor) -> Tensor:
        """The divergence of both distributions without the true class."""
        with torch.no_grad():
            due = self.sent(z)
        mine, theirs = ((others(x, y) / self.temperature).log_softmax(1) for x in (logits, due))
        return self.weight * self.temperature**2 * kl_div(mine, theirs, reduction="batchmean", log_target=True)


METHODS: dict[str, type[FedAvg]] = {
    "FedAvg": FedAvg,
    "FedProx": FedProx,
    "FedOpt": FedOpt,
    "FedDyn": FedDyn,
    "SCAFFOLD": Scaffold,
    "MOON": Moon,
    "FedNTD": FedNTD,
}


# --- weights ---------------------------------------------------------------------------------------------------------
def others(logits: Tensor, y: Tensor) -> Tensor:
    """Logits ``[B, K]`` without that of the true class: ``[B, K - 1]``."""
    there = torch.ones_like(logits, dtype=torch.bool).scatter(1, y[:, None], False)
    return logits[there].view(len(logits), -1)


def weights(net: nn.Module) -> Tensor:
    """All of them as one vector, a copy."""
    return parameters_to_vector(net.parameters()).detach().clone()


def put(net: nn.Module, vector: Tensor) -> None:
    """Set all weights."""
    vector_to_parameters(vector.clone(), net.parameters())
