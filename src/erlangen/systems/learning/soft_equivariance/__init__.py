"""Soft equivariance: pull a dense network towards several symmetries, and let the data say which ones it keeps.

The method is `erlangen.relax` with ``method="projection"``; here are the networks and tasks that it is measured on.
"""

from erlangen.survey import System

__all__ = ["SYSTEM"]

SYSTEM = System(
    title="Regularizing Towards Soft Equivariance Under Mixed Symmetries",
    authors=("Hyunsu Kim", "Hyungi Lee", "Hongseok Yang", "Juho Lee"),
    venue="ICML",
    year=2023,
    arxiv="2306.00356",
    abstract_claims=(
        "A regulariser builds models with soft equivariance for several symmetries of different degrees.",
        "It is more accurate than architectures with soft equivariance on functions and on motion forecasting.",
        "It discovers the approximate level of each symmetry correctly.",
    ),
    method=("erlangen.soft.relax",),
)
