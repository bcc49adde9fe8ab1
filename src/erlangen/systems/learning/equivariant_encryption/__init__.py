"""Equivariant encryption: models under secret keys that their layers commute with, and six attacks on them.

It is keyed obfuscation of weights and no encryption in the sense of cryptography; what it hides and from whom is measured.
"""

from erlangen.survey import System
from erlangen.systems.learning.equivariant_encryption._transformer import LanguageModel
from erlangen.systems.learning.equivariant_encryption.method import (
    ObfuscatedModel,
    ObfuscationClient,
    ObfuscationKey,
    ObfuscationWarning,
    activation_errors,
    fold_gain,
    fold_mean,
    obfuscate,
    obfuscated_streams,
)

__all__ = [
    "SYSTEM", "LanguageModel", "ObfuscatedModel", "ObfuscationClient", "ObfuscationKey", "ObfuscationWarning",
    "activation_errors", "fold_gain", "fold_mean", "obfuscate", "obfuscated_streams",
]  # fmt: skip

SYSTEM = System(
    title="Encrypted large model inference: the equivariant encryption paradigm",
    authors=("James Buban", "Hongyang Zhang", "Claudio Angione", "and ten others (Nesa Research)"),
    venue="arXiv",
    year=2025,
    arxiv="2502.01013",
    abstract_claims=(
        "Inference runs on transformed data with a transformed model, and the client decodes the result exactly.",
        "Selected internal representations are obfuscated while linear and prescribed non-linear operations stay exact.",
        "The overhead is near zero.",
        "Client data are protected from the server.",
    ),
    method=(
        "erlangen.systems.equivariant_encryption.ObfuscatedModel",
        "erlangen.systems.equivariant_encryption.ObfuscationKey",
        "erlangen.systems.equivariant_encryption.ObfuscationClient",
        "erlangen.systems.equivariant_encryption.obfuscate",
        "erlangen.systems.equivariant_encryption.obfuscated_streams",
    ),
)
