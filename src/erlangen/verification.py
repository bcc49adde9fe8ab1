"""Moved: see `erlangen.survey.verification`."""

from erlangen.moved import moved

moved(__name__, "erlangen.survey.verification")
