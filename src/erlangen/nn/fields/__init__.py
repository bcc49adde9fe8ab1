"""Neural fields: functions of space as networks, and codes of them that a group moves."""

from erlangen.nn.fields.attention import EquivariantField, FieldAttention
from erlangen.nn.fields.auto_decoder import AutoDecoder, inner_sgd
from erlangen.nn.fields.encodings import FourierFeatures, FourierNetwork, PeriodicEncoding
from erlangen.nn.fields.invariants import FieldInvariants
from erlangen.nn.fields.latents import Latents, latent_action, latent_grid, repeat_latents
from erlangen.nn.fields.siren import SineLayer, Siren

__all__ = [
    "AutoDecoder",
    "EquivariantField",
    "FieldAttention",
    "FieldInvariants",
    "FourierFeatures",
    "FourierNetwork",
    "Latents",
    "PeriodicEncoding",
    "SineLayer",
    "Siren",
    "inner_sgd",
    "latent_action",
    "latent_grid",
    "repeat_latents",
]
