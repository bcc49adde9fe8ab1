"""How groups act on data: points, images, boxes, cameras, graphs, matrices, sequences, and trees of these.

>>> import torch, erlangen as er
>>> move = er.actions.Points().on(er.SE(3))
>>> g = er.SE(3).sample(generator=torch.Generator().manual_seed(0))
>>> move.act(g, torch.zeros(1, 5, 3)).shape
torch.Size([1, 5, 3])
"""

from erlangen.actions.base import Action, Custom, GroupAction, Part, Tree, tree_leaves, tree_map, tree_structure
from erlangen.actions.boxes import Boxes, OrientedBoxes
from erlangen.actions.classes import Classes
from erlangen.actions.compose import DirectSum, Factors, Sequence, TreeAction, trajectory
from erlangen.actions.discrete import Graph, GroupAxis, Permuted, Rolled
from erlangen.actions.geometric import SPD, Invariant, Points, Pseudovectors, Scaled, Vectors
from erlangen.actions.image import Field, Image
from erlangen.actions.names import ActionLike, parse_action
from erlangen.actions.signs import Relabelled, Sign, Swap
from erlangen.actions.views import Cameras, Pixels, Views
from erlangen.actions.weight_graph import weight_streams
from erlangen.actions.weights import Port, Stream, Weights, WeightStreams

__all__ = [
    "Action",
    "ActionLike",
    "Boxes",
    "Cameras",
    "Classes",
    "Custom",
    "DirectSum",
    "Factors",
    "Field",
    "Graph",
    "GroupAction",
    "GroupAxis",
    "Image",
    "Invariant",
    "OrientedBoxes",
    "Part",
    "Permuted",
    "Pixels",
    "Points",
    "Port",
    "Pseudovectors",
    "Relabelled",
    "Rolled",
    "SPD",
    "Scaled",
    "Sequence",
    "Sign",
    "Stream",
    "Swap",
    "Tree",
    "TreeAction",
    "Vectors",
    "Views",
    "WeightStreams",
    "Weights",
    "parse_action",
    "trajectory",
    "tree_leaves",
    "tree_map",
    "tree_structure",
    "weight_streams",
]
