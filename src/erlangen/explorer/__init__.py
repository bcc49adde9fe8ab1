"""The explorer: one sample, moved through its group in the browser, and what models answer on the way."""

from erlangen.explorer.page import explore
from erlangen.explorer.session import Answer, Exploration

__all__ = ["Answer", "Exploration", "explore"]
