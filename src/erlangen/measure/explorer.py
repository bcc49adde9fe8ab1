"""Moved: see `erlangen.explorer`."""

from erlangen.moved import moved

moved(__name__, "erlangen.explorer")
