"""Moved: see `erlangen.survey.verification`."""

from erlangen._moved import moved

moved(__name__, "erlangen.survey.verification")
