"""Moved: see `erlangen.survey.ledger`."""

from erlangen._moved import moved

moved(__name__, "erlangen.survey.ledger")
