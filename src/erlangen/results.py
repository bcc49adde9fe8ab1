"""Moved: see `erlangen.survey.results`."""

from erlangen._moved import moved

moved(__name__, "erlangen.survey.results")
