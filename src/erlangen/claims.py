"""Claims, and the systems that make them: what a module of the survey states (see `erlangen.survey`)."""

from erlangen.survey.claims import Claim, ClaimError, Kind, Result, Scale, System, averaged

__all__ = ["Claim", "ClaimError", "Kind", "Result", "Scale", "System", "averaged"]
