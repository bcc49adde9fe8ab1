"""scipy's k-d tree, as all searches here build it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def search_tree(points: NDArray[np.floating[Any]]) -> Any:
    """scipy is imported where it is used: it takes longer than the rest of the library."""
    from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue] - compiled, without stubs

    # Medians would cut graphs in two, which costs more in the search than it saves in the depth of the tree.
    return cKDTree(points, balanced_tree=False)
