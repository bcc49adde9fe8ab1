"""The survey: published systems, the claims of their papers, and what runs of them have found.

A system says what is compared; the survey trains, chooses learning rates, pairs seeds and judges:

>>> from erlangen.survey import Rival, Run, Sizes, Split, Training, compare, sweep  # models that are trained; what is solved
>>> from erlangen.survey import exact, bound, number, properties  # short functions that become claims
>>> from erlangen.survey import Claim, Part, Result, System  # what an experiment returns, and whose it is

`erlangen.survey.ledger` finds and runs systems, `erlangen.survey.verification` runs many and keeps what they find.
"""

from erlangen.survey.claims import Claim, ClaimError, Kind, Part, Result, Scale, System, Verdict, averaged
from erlangen.survey.comparison import Measure, Rival, Split, Training, compare, sweep
from erlangen.survey.property_claims import Property, bound, exact, largest, number, properties
from erlangen.survey.runs import Run, Sizes
from erlangen.survey.tables import Table

__all__ = [
    "Claim",
    "ClaimError",
    "Kind",
    "Measure",
    "Part",
    "Property",
    "Result",
    "Rival",
    "Run",
    "Scale",
    "Sizes",
    "Split",
    "System",
    "Table",
    "Training",
    "Verdict",
    "averaged",
    "bound",
    "compare",
    "exact",
    "largest",
    "number",
    "properties",
    "sweep",
]
