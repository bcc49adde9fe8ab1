"""Equivariant encryption: models under secret keys that their layers commute with, and six attacks on them.

It is keyed obfuscation of weights and no encryption in the sense of cryptography; what it hides and from whom is measured.
"""

from erlangen.survey import System
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
    "SYSTEM", "ObfuscatedModel", "ObfuscationClient", "ObfuscationKey", "ObfuscationWarning", "activation_errors",
    "fold_gain", "fold_mean", "obfuscate", "obfuscated_streams",
]  # fmt: skip
