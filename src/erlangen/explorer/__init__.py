"""The explorer: one sample, moved through its group in the browser, and what models answer on the way."""

from erlangen.explorer.server import check_address, explore
from erlangen.explorer.session import Answer, Exploration

__all__ = ["Answer", "Exploration", "check_address", "explore"]
