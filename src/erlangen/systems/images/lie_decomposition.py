r"""Lie group decompositions: convolutions on affine groups whose exponential map does not reach every element.

Mironenco and Forré (2024) build group convolutions on $\mathbb{R}^2 \rtimes H$ for groups H such as SL(2) and GL+(2). Networks
before theirs parametrise the kernel by the matrix logarithm, which some elements of these groups do not have. Here every
element is split as $g = S^{1/2} R$, S symmetric positive and R a rotation. The split gives a chart of the whole group, in
which a sine network is the kernel; it turns Haar measure into a product of two known ones, so that integrals can be sampled;
and it gives every sample with its inverse. A layer is one plain convolution: its kernels do not depend on the batch.

`PolarChart`, `PolarSampler` and `GroupSamples` are for any n; `LieLift`, `LieConv` and `LieProject` build networks on the
plane, such as `LieGroupCNN`. `GroupSamples.of` takes the elements of a finite group, for which everything is exact.

Re-measured here:

1. Exact properties: round trips, an element without logarithm and how many more samples have none, Haar measure (also
   without the square root, which must fail), the affine group's modular function, the kernels' identity, the plain and the
   four-fold convolution as special cases, and how fast the error of a layer falls with the number of samples.
2. Real digits, moved but neither turned nor deformed in training; tested so ("clean"), with the distortions of affNIST
   ("affine") and with these after a change of perspective ("homography"). Canvas 28 x 28, then means over 2 x 2 pixels.
   Rows: the network with H = SL(2), GL+(2) and SO(2); a plain CNN of about as many parameters; the same trained on affinely
   distorted digits, the maps of the test.

All methods see the same digits in equally many epochs with the same optimiser and schedule. For each the learning rate is the
better of two on 500 other training digits, moved only, after a sixth of the epochs with the first seed. Elements of H come
from a law about as wide as the distortions; SO(2) has the same angles. As in the paper, an answer is a mean over draws of the
elements; "one draw" is the answer of one.

Why training is hard:

- A sine network divides its frequencies by the number of its inputs, so that with the coordinates of z and SL(2) kernels are
  too smooth in z. `GroupKernel` has the frequencies in z that it would have without H.
- All layers share one draw of elements, and the maximum over elements depends on their number, so that training and test
  have equally many.
- One step costs several of the CNN's, and the loss still falls when that of the CNN is near zero. SO(2), with fewer
  coordinates, learns faster than SL(2). The row of the augmented CNN shows how far the plain one's error can fall at all.

What differs from the paper: thousands of digits at half resolution and a few epochs instead of 60 000 and 50; three elements
of H instead of ten, one draw for all layers, 16 channels instead of 40, one hidden layer in the kernels instead of two, a soft
mask for all groups, and angles of a limited range. The rotation enters the kernel by its cosine and sine, so that there is no
jump at half turns. The determinant in the group convolution is that of the input's element, as its measure says. The measure
in the networks is the law of the samples, as in the paper; Haar weights, which the exact statements need, are an option of
`LieConv`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy

from erlangen import plots
from erlangen.data import affine_distortion, digits, homography_distortion
from erlangen.groups import SL, SO, GLPlus, GroupSamples, LinearGroup, PolarChart, PolarSampler
from erlangen.nn import GroupKernel, LieConv, LieLift, LieProject
from erlangen.survey.claims import Claim, Result, Scale, System, averaged
from erlangen.systems.images import _lie_properties as properties
from erlangen.systems.images._lie_network import LieGroupCNN, PlainCNN
from erlangen.systems.images._lie_properties import rng
from erlangen.training import fit

__all__ = [
    "SYSTEM",
    "GroupKernel",
    "GroupSamples",
    "LieConv",
    "LieGroupCNN",
    "LieLift",
    "LieProject",
    "PlainCNN",
    "PolarChart",
    "PolarSampler",
    "experiment",
]

SYSTEM = System(
    title="Lie Group Decompositions for Equivariant Neural Networks",
    authors=("Mircea Mironenco", "Patrick Forré"),
    venue="ICLR",
    year=2024,
    arxiv="2310.11366",
    abstract_claims=(
        "Group convolutions exist for groups that are neither compact nor commutative, where the exponential is not onto.",
        "Decompositions into subgroups and submanifolds give invariant integration and a global parametrisation.",
        "Networks on affine groups generalise better to affine distortions than earlier equivariant and capsule networks.",
    ),
)

Row = dict[str, Any]
CANVAS = 28
BATCH = 32
SAMPLES = 3
"""Elements of H, in training and in tests."""
DRAWS = 4
"""Random draws of them whose answers a test averages."""
RATES = (3e-3, 6e-3)
STILL: dict[str, Any] = {"degrees": 0.0, "shear": 0.0, "scale": (1.0, 1.0)}
TESTS = ("clean", "affine", "homography")


def group_network(group: LinearGroup) -> LieGroupCNN:
    """The network of the experiment."""
    sampler = PolarSampler(group, 0.02, angle=0.4)
    options: dict[str, Any] = {"samples": SAMPLES, "eval_samples": SAMPLES, "sampler": sampler}
    return LieGroupCNN(group, width=(16, 64), hidden=(36,), mask="sigmoid", **options)


METHODS: dict[str, Callable[[], nn.Module]] = {
    "SL(2)": lambda: group_network(SL(2)),
    "GL+(2)": lambda: group_network(GLPlus(2)),
    "SO(2)": lambda: group_network(SO(2)),
    "CNN": PlainCNN,
    "CNN, augmented": PlainCNN,
}


# --- digits -------------------------------------------------------------------------------------------------------
class Digits:
    """The digits of one seed: training ones on the canvas and as they are, validation, and three tests of equal labels."""

    def __init__(self, train: int, test: int, seed: int) -> None:
        pool, held = digits("train"), digits("test")
        order = torch.randperm(len(pool.x), generator=rng(seed))
        chosen, spare = order[:train], order[-500:]
        self.raw, self.y = pool.x[chosen], pool.y[chosen]
        self.x = placed(self.raw, seed)
        self.validation = placed(pool.x[spare], seed + 1), pool.y[spare]
        x = held.x[:test]
        self.labels = held.y[:test]
        self.tests = {
            "clean": placed(x, seed + 2),
            "affine": halved(affine_distortion(x, size=CANVAS, generator=rng(seed + 3))),
            "homography": halved(homography_distortion(x, size=CANVAS, generator=rng(seed + 4))),
        }


def halved(x: Tensor) -> Tensor:
    """Means over 2 x 2 pixels."""
    return avg_pool2d(x, 2)


def placed(x: Tensor, seed: int) -> Tensor:
    """Digits moved at random on the canvas, otherwise as they are; then at half resolution."""
    return halved(affine_distortion(x, size=CANVAS, **STILL, generator=rng(seed)))


def distorted(x: Tensor, y: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Digits under the maps of the affine test; a transform for `fit`."""
    return halved(affine_distortion(x, size=CANVAS, generator=generator)), y


def train(name: str, data: Digits, epochs: int, lr: float, seed: int) -> nn.Module:
    """Train one method, with a learning rate that falls as a cosine; the model comes back in eval mode."""
    torch.manual_seed(seed)
    model = METHODS[name]()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=5e-3)

    def anneal(done: int) -> None:
        optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * done / epochs)) / 2

    anneal(0)
    augmented = name == "CNN, augmented"
    fit(
        model,
        data.raw if augmented else data.x,
        data.y,
        loss=cross_entropy,
        epochs=epochs,
        batch_size=BATCH,
        optimizer=lambda _: optimizer,
        transform=distorted if augmented else None,
        callbacks=[lambda epoch, _model, _row: anneal(epoch + 1)],
        seed=seed,
        progress=False,
    )
    return model


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor, draws: int = DRAWS) -> float:
    """Percent of right answers; those of a network on a group are means of logits over draws of its elements."""
    generator, logits = rng(0), torch.zeros(())
    for _ in range(draws if isinstance(model, LieGroupCNN) else 1):
        if isinstance(model, LieGroupCNN):
            model.resample(SAMPLES, generator=generator)
        logits = logits + torch.cat([model(part) for part in x.split(250)])
    return 100 * float((logits.argmax(-1) == y).double().mean())


def tuned(name: str, data: Digits, epochs: int, seed: int) -> float:
    """The learning rate with the best validation accuracy after a sixth of the epochs; the first of equals."""
    short = max(epochs // 6, 1)
    return max(RATES, key=lambda lr: accuracy(train(name, data, short, lr, seed), *data.validation))


def tested(name: str, data: Digits, epochs: int, lr: float, seed: int) -> Row:
    """Accuracies of one trained method; for a group also with a single draw of elements."""
    model = train(name, data, epochs, lr, seed)
    row: Row = {test: accuracy(model, x, data.labels) for test, x in data.tests.items()}
    if isinstance(model, LieGroupCNN):
        row["affine, one draw"] = accuracy(model, data.tests["affine"], data.labels, draws=1)
    parameters = sum(p.numel() for p in model.parameters())
    return {**row, "parameters": parameters, "learning rate": f"{lr:g}", "epochs": epochs, "digits": len(data.y)}


def digit_rows(train_size: int, test_size: int, epochs: int, seeds: Sequence[int], *, tune: bool) -> list[Row]:
    """One row for each method, means and standard deviations over seeds."""
    sets = [Digits(train_size, test_size, seed) for seed in seeds]
    rows: list[Row] = []
    for name in METHODS:
        lr = tuned(name, sets[0], epochs, seeds[0]) if tune else RATES[-1]
        runs = [tested(name, data, epochs, lr, seed) for data, seed in zip(sets, seeds, strict=True)]
        rows.append(averaged(runs, part="digits", method=name))
    return rows


def digit_claims(rows: Sequence[Row]) -> list[Claim]:
    """Claims about digits."""
    error = {row["method"]: {test: 100 - row[test] for test in TESTS} for row in rows}

    def ratio(a: str, b: str, test: str = "affine") -> float:
        return error[a][test] / max(error[b][test], 1e-9)

    sizes = [row["parameters"] for row in rows]
    plain = "Error on affine digits over that of the plain CNN without augmentation: "
    return [
        Claim.ratio("sl2-against-cnn", plain + "SL(2).", measured=ratio("SL(2)", "CNN"), at_most=0.6),
        Claim.ratio("gl2-against-cnn", plain + "GL+(2).", measured=ratio("GL+(2)", "CNN"), at_most=0.6),
        Claim.ratio(
            "sl2-against-rotations",
            "Error on affine digits of SL(2) over that of SO(2).",
            measured=ratio("SL(2)", "SO(2)"),
            at_most=1,
        ),
        Claim.ratio(
            "sl2-against-cnn-homography",
            "Error on digits in perspective of SL(2) over that of the plain CNN without augmentation.",
            measured=ratio("SL(2)", "CNN", "homography"),
            at_most=1,
        ),
        Claim.ratio("equal-parameters", "Most over fewest parameters.", measured=max(sizes) / min(sizes), at_most=1.1),
        Claim.not_measurable(
            "published-affnist",
            "Best accuracy on affNIST among equivariant and capsule networks, with all of MNIST in training.",
            published="reported as best of all compared",
            reason="needs 60 000 digits and 50 epochs on a GPU; a small version is above",
        ),
    ]


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(scale: Scale, seed: int) -> Result:
    """Both parts; "full" has three seeds and tunes the learning rate."""
    full = scale == "full"
    measured = properties.rows(full, seed)
    trained = (
        digit_rows(4000, 1000, 6, [seed + k for k in range(3)], tune=True)
        if full
        else digit_rows(96, 40, 1, [seed], tune=False)
    )
    return Result([*measured, *trained], [*properties.claims(measured), *digit_claims(trained)])


def figure(result: Result) -> plots.Figure:
    """Error of each method on clean, affinely distorted and projectively distorted digits."""
    rows = [row for row in result.rows if row["part"] == "digits"]
    errors = {test: [100 - row[test] for row in rows] for test in TESTS}
    return plots.barh(errors, [row["method"] for row in rows], "error in percent")
