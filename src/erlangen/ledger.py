"""Moved: see `erlangen.survey.ledger`."""

from erlangen.moved import moved

moved(__name__, "erlangen.survey.ledger")
