"""Moved: see `erlangen.explorer`."""

from erlangen._moved import moved

moved(__name__, "erlangen.explorer")
