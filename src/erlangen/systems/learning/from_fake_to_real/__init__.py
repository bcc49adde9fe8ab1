"""FFR: a network learns from group-balanced synthetic pictures first and from biased real ones then, never from a mixture.

A mixture that balances labels against a nuisance binds them to the pair of nuisance and source instead, since synthetic
pictures look synthetic; each stage of FFR has a single source.
"""

from erlangen.survey import System
from erlangen.systems.learning.from_fake_to_real._groups import Grouped, group_accuracies, group_report, mix
from erlangen.systems.learning.from_fake_to_real._losses import GroupDRO, reweight_last_layer
from erlangen.systems.learning.from_fake_to_real.method import (
    Stage,
    add_equal,
    cut_to_bias,
    fill_to_max,
    from_fake_to_real,
    take_first,
    train_stage,
)

__all__ = ["SYSTEM", "GroupDRO", "Grouped", "Stage", "add_equal", "cut_to_bias", "fill_to_max", "from_fake_to_real"]
__all__ += ["group_accuracies", "group_report", "mix", "reweight_last_layer", "take_first", "train_stage"]

SYSTEM = System(
    title="From Fake to Real: Pretraining on Balanced Synthetic Images to Prevent Spurious Correlations in Image Recognition",
    authors=("Maan Qraitem", "Kate Saenko", "Bryan A. Plummer"),
    venue="ECCV",
    year=2024,
    arxiv="2308.04553",
    abstract_claims=(
        "Adding synthetic images to a biased training set binds labels to the pair of the bias and the source.",
        "Training on balanced synthetic images first, and then on real ones, avoids this.",
        "Worst-group accuracy is up to 20 points above the state of the art on three data sets.",
    ),
    method=(
        "erlangen.systems.from_fake_to_real.from_fake_to_real",
        "erlangen.systems.from_fake_to_real.fill_to_max",
        "erlangen.systems.from_fake_to_real.add_equal",
        "erlangen.systems.from_fake_to_real.group_report",
    ),
)
