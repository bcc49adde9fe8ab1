"""Moved: see `erlangen.survey.results`."""

from erlangen.moved import moved

moved(__name__, "erlangen.survey.results")
