"""NERO evaluation: a metric becomes a function on the group, and a model is judged on whole orbits of its inputs.

Zhao, Matsuzawa, Irvine, Maire and Kindlmann (2023) replace the one number of a test set by a curve: the metric of g x against
g y for all elements g of a group (a "NERO plot"). Flat curves tell of equivariance, dips of what a model has not seen. Where
labels are missing, the *consensus*, the mean of the model's answers brought back by the inverse elements, stands in for them.
In this library the method is `erlangen.audit`: the report holds the curves, their mean, spread and worst element, the consensus,
the floor of resampling and the plots. This system runs it on the four subjects of the paper.

Re-measured here:

1. **Properties** of audits and actions, with models that are made up for it: the curve of h x is that of x at g h (and not
   at h g, which a group that does not commute tells apart); the sixteen elements of D4 x reversal of time act as they multiply,
   on frames and fields, bit by bit; a planted harmonic comes back; the consensus moves with the input and obeys Jensen;
   boxes come back as they were, and boxes cut at the border stay out of the mean.
2. **Digits** (real ones, MNIST): one network of 13 500 parameters, trained three ways on the same upright images: as they
   are; turned by normal angles of 45 degrees, truncated there; turned by all angles, with answers averaged over eight
   turns. Percent right over all turns, cyclic shifts and scalings. Images are black outside of the inscribed disk, and the row
   states what resampling alone changes.
3. **Flow**: synthetic particle image velocimetry (`erlangen.simulate.particle_images`), all flows from left to right with
   counterclockwise vortices. A small network, its average over the sixteen elements without further training, and classical
   cross-correlation. Mean end-point error in pixels; the average, at sixteen times the cost, on fewer pairs.
4. **Clouds**: six families of upright surfaces, a PointNet as it is, trained with turns about the vertical, and in frames
   (`erlangen.symmetrize`), over a disk of axes and angles.
5. **Boxes**: a digit on a larger canvas, found by a network that reads class, box and confidence from all features at once,
   and by one whose cells share their weights. Both train on digits near the middle. Audited on shifts by up to 18 pixels;
   views that cut the box are told apart. Overlap (intersection over union) and confidence are separate columns.
6. **Consensus against labels**: Spearman's correlation of the samples' mean scores along their orbits. Of an equivariant
   model the consensus is its own answer, so nothing is compared there.

All models of one subject have the same data, epochs, batch size and optimiser. Of two learning rates each takes the one that is
better on validation data after half of the epochs, with the first seed. Differences to the paper: its models for COCO and its
velocimetry networks are replaced by small ones trained here; in place of a Qt application there are reports, and the explorer
of `erlangen explore`. Class labels are never averaged: their consensus is a vote, or a mean of probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from erlangen import plots
from erlangen.survey.claims import Claim, Result, Scale, System
from erlangen.systems.images import _nero_boxes as boxes
from erlangen.systems.images import _nero_clouds as clouds
from erlangen.systems.images import _nero_digits as digits
from erlangen.systems.images import _nero_flow as flow
from erlangen.systems.images._nero_boxes import CellDetector, DenseDetector
from erlangen.systems.images._nero_common import Row
from erlangen.systems.images._nero_digits import PlainCNN
from erlangen.systems.images._nero_flow import FlowCNN, correlate
from erlangen.systems.images._nero_properties import property_rows

__all__ = ["SYSTEM", "CellDetector", "DenseDetector", "FlowCNN", "PlainCNN", "correlate", "experiment"]

SYSTEM = System(
    title="Evaluating Machine Learning Models with NERO: Non-Equivariance Revealed on Orbits",
    authors=("Zhuokai Zhao", "Takumi Matsuzawa", "William Irvine", "Michael Maire", "Gordon L. Kindlmann"),
    venue="arXiv",
    year=2023,
    arxiv="2305.19889",
    abstract_claims=(
        "Scalar metrics hide where and how a model fails; its behaviour along orbits of a group shows both.",
        "One workflow serves digit recognition, object detection, particle image velocimetry and point clouds.",
        "Plots on orbits show at a glance how equivariant different models are, and explain what they do.",
        "The consensus of a model's answers replaces ground truth, so that data without labels can be evaluated.",
    ),
)


# --- claims ----------------------------------------------------------------------------------------------------------
def property_claims(rows: Sequence[Row]) -> list[Claim]:
    """Claims about audits and actions, whatever the model."""
    value = {row["model"]: row["value"] for row in rows if row["part"] == "properties"}

    def exact(name: str, statement: str, key: str, tol: float) -> Claim:
        return Claim.exact(name, statement, measured=value[key], tol=tol)

    return [
        exact(
            "orbit-law",
            "Scores of hx that differ from the curve of x at gh, for all g and h of D4, bit by bit.",
            "orbit law, scores that differ",
            0,
        ),
        Claim.ratio(
            "orbit-law-order",
            "The same with hg in place of gh, which is wrong in a group that does not commute: scores that differ.",
            measured=value["orbit law with hg, scores that differ"],
            at_least=1,
        ),
        exact(
            "flow-representation",
            "Of 256 pairs of elements of D4 x reversal of time, those whose product acts otherwise on frames or field.",
            "flow action, pairs whose product fails",
            0,
        ),
        exact(
            "flow-derivatives",
            "Divergence and curl of moved fields against the moved ones with their signs, largest difference, float64.",
            "flow action, change of divergence and curl",
            1e-12,
        ),
        exact(
            "planted-harmonic",
            "Amplitudes that an audit finds of a model that is off by 0.25 cos(3 t), largest error over all frequencies.",
            "planted harmonic",
            1e-3,
        ),
        exact(
            "consensus-equivariant",
            "Consensus of hx minus h of the consensus of x, over D4, float64.",
            "consensus of hx minus h of the consensus",
            1e-12,
        ),
        exact(
            "consensus-idempotent",
            "Consensus of an equivariant model minus its own answer, float64.",
            "consensus of an equivariant model minus its answer",
            1e-12,
        ),
        exact(
            "consensus-jensen",
            "How far the squared error of the consensus lies above the mean of the squared errors.",
            "loss of the consensus above the mean loss",
            1e-12,
        ),
        exact(
            "boxes-come-back",
            "Boxes that are not bit-identical after a shift, or an element of D4, and back.",
            "boxes that come back changed",
            0,
        ),
        exact(
            "cut-boxes-left-out",
            "Error of the consensus, in pixels, of a detector that sees exactly what is on the canvas.",
            "consensus of cut boxes",
            1e-12,
        ),
        Claim.ratio(
            "cut-boxes-matter",
            "The same when cut boxes are averaged like all others, in pixels.",
            measured=value["the same with all views averaged"],
            at_least=0.1,
        ),
        exact(
            "shift-invariant",
            "Worst error over all 784 shifts of a network of circular convolutions and a mean, float32.",
            "all shifts of a shift-invariant network",
            1e-6,
        ),
        Claim.ratio(
            "resampling-floor",
            "Relative change of smooth pictures that are turned twelve times by 30 degrees: it is not zero, so it is reported.",
            measured=value["twelve turns by 30 degrees"],
            at_least=0.01,
        ),
        exact(
            "rotation-grid",
            "Mean of the entries of D^l, l = 1 to 4, over 576 rotations with equal weights, largest.",
            "mean of D^l over 576 rotations",
            6e-3,
        ),
        Claim.ratio(
            "rotation-grid-converges",
            "That mean over the one for eight times as many rotations.",
            measured=value["mean of D^l over 576 rotations"] / value["mean of D^l over 4608 rotations"],
            at_least=4,
        ),
    ]


def trained_claims(rows: Sequence[Row], *, full: bool) -> list[Claim]:
    """Claims about trained models; the thresholds of short runs are softer where noise demands it."""
    table = {(row["part"], row["model"]): row for row in rows}
    plain, limited, whole = (table["digits", name] for name in digits.MODELS)
    cnn, mean, classical = (table["flow", name] for name in ("CNN", "CNN, symmetrized", "correlation"))
    bare, _, framed = (table["clouds", name] for name in clouds.MODELS)
    dense, cells = (table["boxes", name] for name in boxes.MODELS)
    far = table["boxes, shift", "15"]
    return [
        Claim.ratio(
            "digits-plain-varies",
            "Digits, plain: standard deviation over all turns of the percent right.",
            measured=plain["spread over turns"],
            at_least=15 if full else 8,
        ),
        Claim.ratio(
            "digits-averaged-flat",
            "Digits, trained on all turns and averaged over eight: the same standard deviation.",
            measured=whole["spread over turns"],
            at_most=1 if full else 3,
            published="flat curves",
        ),
        Claim.ratio(
            "digits-limited-range",
            "Digits, limited turns: points between turns of at most 45 degrees and of at least 135.",
            measured=limited["within 45 degrees"] - limited["beyond 135 degrees"],
            at_least=15 if full else 5,
            published="flat only inside of the augmented range",
        ),
        Claim.ratio(
            "digits-limited-inside",
            "Digits, points within 45 degrees: limited turns minus plain.",
            measured=limited["within 45 degrees"] - plain["within 45 degrees"],
            at_least=5 if full else -5,
        ),
        Claim.exact(
            "flow-correlation-flat",
            "Cross-correlation: largest change of a pair's end-point error over its sixteen elements, pixels.",
            measured=classical["largest change of a sample"],
            tol=1e-3,
        ),
        Claim.exact(
            "flow-symmetrized-exact",
            "Network averaged over the sixteen elements: worst equivariance error, float32, every element visited.",
            measured=mean["equivariance error"],
        ),
        Claim.ratio(
            "flow-network-varies",
            "Flow network: end-point error under its worst element over that of the pairs as they are.",
            measured=cnn["worst element"] / cnn["upright"],
            at_least=2 if full else 1.3,
            published="orientations that the training data lack stand out",
        ),
        Claim.ratio(
            "clouds-plain-varies",
            "Clouds, PointNet: standard deviation over the disk of rotations of the percent right.",
            measured=bare["spread over orbit"],
            at_least=15 if full else 5,
        ),
        Claim.ratio(
            "clouds-frames-flat",
            "Clouds, PointNet in frames: the same standard deviation.",
            measured=framed["spread over orbit"],
            at_most=1,
        ),
        Claim.ratio(
            "boxes-confidence-moves",
            "Boxes, dense detector: confidence in the middle minus that at shifts of 15 pixels, whole boxes.",
            measured=dense["confidence, middle"] - far["dense, confidence"],
            at_least=0.05 if full else -0.02,
            published="confidence depends on the position",
        ),
        Claim.ratio(
            "boxes-cells-keep",
            "Boxes: overlap that the dense detector loses from the middle to 15 pixels minus that which the cells lose.",
            measured=(dense["overlap, middle"] - far["dense, overlap"])
            - (cells["overlap, middle"] - far["cells, overlap"]),
            at_least=0.05 if full else -0.5,
        ),
        *consensus_claims([plain, limited, cnn, dense, cells], full=full),
        Claim.not_measurable(
            "published-detectors",
            "Position-dependent confidence and precision of Faster R-CNN detectors on COCO.",
            published="plots",
            reason="needs COCO and detectors trained on it; the same audit on digits is above",
        ),
    ]


def consensus_claims(rows: Sequence[Row], *, full: bool) -> list[Claim]:
    """One claim for each trained model that is not equivariant: the consensus ranks samples as labels do."""
    return [
        Claim.ratio(
            f"consensus-{row['part']}-{row['model'].lower().replace(' ', '-')}",
            f"{row['part'].capitalize()}, {row['model']}: rank correlation between the samples' mean scores against the "
            "consensus and against labels.",
            measured=row["consensus against labels"],
            at_least=0.8 if full else 0,
            published="consensus curves resemble those with labels",
        )
        for row in rows
    ]


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(scale: Scale, seed: int) -> Result:
    """All parts; "full" has three seeds and tunes the learning rates."""
    full = scale == "full"
    seeds = [seed + 1000 * k for k in range(3 if full else 1)]
    of_digits = (
        digits.Sizes(train=4000, epochs=6, angles=72, turned=200, shifted=10, scaled=200, stride=1, tune=True)
        if full
        else digits.Sizes(train=400, epochs=3, angles=24, turned=20, shifted=1, scaled=8, stride=2, tune=False)
    )
    of_flow = flow.Sizes(800, 60, 8, True) if full else flow.Sizes(128, 8, 4, False)
    of_clouds = clouds.Sizes(1200, 120, 15, True) if full else clouds.Sizes(240, 24, 4, False)
    of_boxes = boxes.Sizes(2000, 40, 12, True) if full else boxes.Sizes(300, 6, 3, False)
    rows = [
        *property_rows(seed),
        *digits.rows(digits.orbits(of_digits, seeds), of_digits),
        *flow.rows(flow.reports(of_flow, seeds), of_flow),
        *clouds.rows(clouds.reports(of_clouds, seeds), of_clouds),
        *boxes.rows(boxes.reports(of_boxes, seeds), of_boxes),
    ]
    return Result(rows, [*property_claims(rows), *trained_claims(rows, full=full)])


def figure(result: Result) -> plots.Figure:
    """NERO plots: digits over all turns; end-point errors of flow on its sixteen elements; confidence over shifts."""
    turns = [row for row in result.rows if row["part"] == "digits, turn"]
    circle = {name: [(math.radians(float(row["model"])), row[name] / 100) for row in turns] for name in digits.MODELS}
    elements = [row for row in result.rows if row["part"] == "flow, element"]
    errors = {name: [row[name] for row in elements] for name in ("CNN", "correlation")}
    shifts = [row for row in result.rows if row["part"] == "boxes, shift"]
    curves = {
        label: [(float(row["model"]), row[label]) for row in shifts if row.get(label) is not None]
        for label in ("dense, overlap", "dense, confidence", "cells, overlap", "cells, confidence")
    }
    drawn, (left, right, below) = plots.panels(3, polar=[0])
    plots.polar(circle, "digits right", percent=True, ax=left)
    places = range(0, boxes.REACH + 1, 3)
    plots.line(curves, "pixels from the middle", "of whole boxes", percent=True, xticks=places, ax=right)
    plots.barh(errors, [row["model"] for row in elements], "end-point error, pixels", ax=below)
    return drawn
