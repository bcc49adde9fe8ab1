"""Graphs from files: the TU collection in both of its forms, and graph6, sparse6 and digraph6."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from erlangen.data._archives import read_arrays
from erlangen.data.graph_sets import GraphData
from erlangen.errors import DataError
from erlangen.files import check_size, reading

__all__ = ["graph6_graphs", "tu_graphs"]


# --- the TU collection -----------------------------------------------------------------------------------------------
def tu_graphs(path: str | Path) -> GraphData:
    """Graphs with classes or targets from the TU collection (Morris et al. 2020), in either of its two common forms.

    Args:
        path: a folder of the collection, with files ``NAME_A.txt``, ``NAME_graph_indicator.txt``, one or both of
            ``NAME_graph_labels.txt`` and ``NAME_graph_attributes.txt``, and perhaps labels and attributes of nodes and edges
            (``NAME_node_labels.txt``, ``NAME_edge_attributes.txt``, ...); or the single text file that many papers use: the
            number of graphs; for each graph a line with its number of nodes and its class, then for each node a line with its
            label, its number of neighbours, these, and perhaps numbers that are its attributes.

    Returns:
        Labels and classes are renumbered from 0 in ascending order. Where labels of nodes or edges have several columns, a label
        is a row of them; classes of several columns are ``y [G, columns]``, each renumbered by itself. Without classes `y` holds
        the attributes of the graphs, ``[G]`` or ``[G, columns]``. Attributes are float32. Graphs are undirected: an edge that
        is listed in one direction is there in both, and one that is listed in both keeps the label of each. Loops and repeated
        edges are dropped.

    Raises:
        DataError: the files are missing, or not as above; the message names file and line.
    """
    path = Path(path)
    if path.is_dir():
        with reading(f"{path} cannot be read"):
            return _folder_graphs(path)
    if not path.is_file():
        raise DataError(f"path = {str(path)!r}: there is no such file or folder")
    with reading(f"{path} cannot be read"):
        return _file_graphs(path)


def _file_graphs(path: Path) -> GraphData:
    """The single-file form."""
    text = path.read_text(encoding="utf-8").splitlines()
    lines = enumerate(text, 1)
    classes: list[int] = []
    labels: list[int] = []
    sizes: list[int] = []
    edges: list[tuple[int, int]] = []
    attributes: list[list[float]] = []
    for _ in range(_integers(path, lines, 1)[0][0]):
        (nodes, kind), _ = _integers(path, lines, 2)
        first = len(labels)
        for node in range(nodes):
            (label, degree), rest = _integers(path, lines, 2)
            near, more = _neighbours(path, rest, degree)
            if len(near) < degree or any(not 0 <= other < nodes for other in near):
                raise DataError(
                    f"{path}: node {node} of graph {len(sizes)} has neighbours that do not exist or are missing"
                )
            labels.append(label)
            attributes.append(more)
            edges += [(first + node, first + other) for other in near]
        classes.append(kind)
        sizes.append(len(labels) - first)
    if any(line.strip() for _, line in lines):
        raise DataError(f"{path} goes on after its {len(sizes)} graphs; is their number in the first line right?")
    widths = set(map(len, attributes))
    if len(widths) > 1:
        raise DataError(
            f"{path}: some nodes have {max(widths)} attributes and some {min(widths)}; give all equally many"
        )
    return _graphs(
        torch.tensor(edges, dtype=torch.int64).reshape(-1, 2),
        torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes, dtype=torch.int64)),
        _Tables(
            torch.tensor(labels, dtype=torch.int64)[:, None],
            torch.zeros(len(edges), 1, dtype=torch.int64),
            torch.tensor(classes, dtype=torch.int64)[:, None],
            node_attributes=torch.tensor(attributes, dtype=torch.float32).reshape(len(labels), max(widths, default=0)),
        ),
    )


def _integers(path: Path, lines: Iterator[tuple[int, str]], count: int) -> tuple[list[int], list[str]]:
    """The first numbers of the next line, and its other words."""
    at, line = next(lines, (0, ""))
    words = line.split()
    if len(words) < count:
        raise DataError(f"{path}, line {at}: {line!r} needs at least {count} integers, or the file ends too early")
    try:
        return [int(word) for word in words[:count]], words[count:]
    except ValueError:
        raise DataError(f"{path}, line {at}: {line!r} holds other things than integers") from None


def _neighbours(path: Path, words: list[str], degree: int) -> tuple[list[int], list[float]]:
    """The neighbours of a node, and what comes after them."""
    if degree < 0:
        raise DataError(f"{path}: a node has {degree} neighbours")
    try:
        return [int(word) for word in words[:degree]], [float(word) for word in words[degree:]]
    except ValueError:
        raise DataError(f"{path}: {' '.join(words)[:60]!r} holds other things than integers and numbers") from None


class _Tables(NamedTuple):
    """Rows for nodes, edges and graphs: int64 labels ``[rows, columns]``, float32 attributes, no columns without."""

    node_labels: Tensor
    edge_labels: Tensor
    graph_labels: Tensor | None
    node_attributes: Tensor | None = None
    edge_attributes: Tensor | None = None
    graph_attributes: Tensor | None = None


def _folder_graphs(folder: Path) -> GraphData:
    """The form of the collection itself."""
    found = sorted(folder.glob("*_A.txt"))
    if len(found) != 1:
        raise DataError(f"path = {str(folder)!r} holds {len(found)} files *_A.txt; pass the folder of one set")
    name = found[0].name.removesuffix("_A.txt")

    def table(kind: str, columns: int | None = None, rows: int | None = None) -> Tensor | None:
        file = folder / f"{name}_{kind}.txt"
        if not file.is_file() and rows is not None:
            return None
        floating = kind.endswith("attributes")
        with reading(f"{file} cannot be read as {'numbers' if floating else 'integers'} separated by commas"):
            lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
            read = [[float(w) if floating else _whole(w) for w in line.rstrip(", ").split(",")] for line in lines]
            dtype = torch.float32 if floating else torch.int64
            found = torch.tensor(read, dtype=dtype) if read else torch.zeros(0, columns or 1, dtype=dtype)
        if (columns is not None and found.shape[1] != columns) or (rows is not None and len(found) != rows):
            raise DataError(
                f"{file} has {len(found)} rows of {found.shape[1]} numbers, which does not fit the other files"
            )
        return found

    edges, owner = table("A", columns=2), table("graph_indicator", columns=1)
    assert edges is not None
    assert owner is not None
    batch = owner[:, 0] - 1
    graphs = int(batch.max()) + 1 if len(batch) else 0
    labels, attributes = table("graph_labels", rows=graphs), table("graph_attributes", rows=graphs)
    if labels is None and attributes is None:
        raise DataError(f"{folder} has neither {name}_graph_labels.txt nor {name}_graph_attributes.txt")
    node_labels, edge_labels = table("node_labels", rows=len(batch)), table("edge_labels", rows=len(edges))
    return _graphs(
        edges - 1,
        batch,
        _Tables(
            batch.new_zeros(len(batch), 1) if node_labels is None else node_labels,
            batch.new_zeros(len(edges), 1) if edge_labels is None else edge_labels,
            labels,
            table("node_attributes", rows=len(batch)),
            table("edge_attributes", rows=len(edges)),
            attributes,
        ),
    )


def _whole(word: str) -> int:
    """An integer, also one that is written with decimals; those above 2^53 are kept to the last digit."""
    try:
        return int(word)
    except ValueError:
        value = float(word)
        if not value.is_integer():
            raise ValueError(f"{word.strip()!r} is no integer") from None
        return int(value)


def _graphs(edges: Tensor, batch: Tensor, tables: _Tables) -> GraphData:
    """Undirected graphs without loops: every edge once in each direction, sorted; labels numbered from 0.

    Args:
        edges: ``[E, 2]`` as they are listed.
        batch: graph of each node.
        tables: what belongs to nodes, the listed edges, and graphs.
    """
    if edges.numel() and not 0 <= int(edges.min()) <= int(edges.max()) < len(batch):
        raise DataError(f"an edge names a node that does not exist; there are {len(batch)}")
    # Listed directions come first, and the first of equal ones counts: a reversed one only fills in what is not listed.
    row = torch.nonzero(edges[:, 0] != edges[:, 1])[:, 0].repeat(2)
    half = len(row) // 2
    both = torch.cat([edges[row[:half]], edges[row[half:]].flip(1)])
    code, place = (both[:, 0] * len(batch) + both[:, 1]).unique(return_inverse=True)
    first = torch.full((len(code),), len(row)).scatter_reduce(0, place, torch.arange(len(row)), "amin")
    edge_index, row = both[first].T.contiguous(), row[first]
    targets, classes = tables.graph_attributes, tables.graph_labels
    attributes = {
        "node_attributes": tables.node_attributes,
        "edge_attributes": None if tables.edge_attributes is None else tables.edge_attributes[row],
        "graph_attributes": targets,
    }
    if classes is not None:
        columns = [column.unique(return_inverse=True)[1] for column in classes.T]
        y = torch.stack(columns, -1)
    else:
        assert targets is not None
        y = targets
    return GraphData(
        edge_index=edge_index,
        batch=batch,
        node_labels=_numbered(tables.node_labels),
        edge_labels=_numbered(tables.edge_labels)[row],
        y=y[:, 0] if y.shape[1] == 1 else y,
        **{name: rows for name, rows in attributes.items() if rows is not None},
    )


def _numbered(labels: Tensor) -> Tensor:
    """Rows of labels ``[N, columns]`` as numbers from 0, in ascending order."""
    return labels.unique(dim=0, return_inverse=True)[1] if len(labels) else labels.new_zeros(0)


# --- graph6 and its kin ----------------------------------------------------------------------------------------------
def graph6_graphs(path: str | Path) -> list[Tensor]:
    """Graphs from a file of graph6, sparse6 or digraph6 texts: adjacency matrices ``[n, n]``, float32.

    Args:
        path: a file of one text a line (.g6, .s6, .d6), or an array of texts (.npy), which is read row by row; rows of pairs give
            both one after the other. Arrays that would need pickle are refused. Headers such as ``>>graph6<<`` and ends of lines
            are passed over.

    Returns:
        Symmetric matrices of graph6 and sparse6, of which the latter may have loops and count repeated edges; of digraph6
        ``[i, j]`` is the edge from i to j.

    Raises:
        DataError: there is no such file, or what it holds is none of these; the message names the place.

    Source of the formats: B. McKay's description "formats.txt" of nauty.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"path = {str(path)!r}: there is no such file")
    found: list[Tensor] = []
    for place, word in enumerate(_words(path)):
        kind, text, read = _kind(word.strip())
        with reading(f"{path}, text {place}: {word[:40]!r} is no graph in {kind}"):
            found.append(read(path, text))
    return found


def _words(path: Path) -> list[bytes]:
    if path.suffix.lower() != ".npy":
        with reading(f"{path} cannot be read"):
            lines = [line.strip() for line in path.read_bytes().splitlines()]
        return [line for line in lines if line and line not in (b">>graph6<<", b">>sparse6<<", b">>digraph6<<")]
    with reading(f"{path} holds no plain array of texts"):
        table: Any = read_arrays(path)["x"].reshape(-1)
        if table.dtype.kind not in "SU":
            raise ValueError(f"it holds {table.dtype}")
        return [word.encode() if isinstance(word, str) else bytes(word) for word in table.tolist()]


def _kind(word: bytes) -> tuple[str, bytes, Any]:
    """The format of a text, the text without header and mark, and what reads it."""
    for name, mark, read in (("sparse6", b":", _from_sparse6), ("digraph6", b"&", _from_digraph6)):
        bare = word.removeprefix(f">>{name}<<".encode())
        if bare.startswith(mark):
            return name, bare[1:], read
    return "graph6", word.removeprefix(b">>graph6<<"), _from_graph6


def _sized(path: Path, word: bytes) -> tuple[int, Tensor]:
    """Bytes are 63 plus six bits each: first the number of nodes, in one, four or eight of them; then the others."""
    digits = torch.tensor(list(word), dtype=torch.int64) - 63
    if not len(digits) or int(digits.min()) < 0 or int(digits.max()) > 63:
        raise ValueError("a byte is out of range")
    marks = 0 if digits[0] < 63 else 1 if digits[1] < 63 else 2
    length = (1, 3, 6)[marks]
    head = digits[marks : marks + length].tolist()
    if len(head) < length:
        raise ValueError("it ends within the number of nodes")
    n = sum(digit << 6 * place for place, digit in enumerate(reversed(head)))
    return n, digits[marks + length :]


def _bits(digits: Tensor, count: int) -> Tensor:
    if len(digits) != -(-count // 6):
        raise ValueError("another number of bits than the number of nodes needs")
    return (digits[:, None] >> torch.arange(5, -1, -1) & 1).flatten()[:count].float()


def _from_graph6(path: Path, word: bytes) -> Tensor:
    """The upper triangle, column by column."""
    n, digits = _sized(path, word)
    bits = _bits(digits, math.comb(n, 2))
    check_size(path, 4 * n * n)
    column, row = torch.tril_indices(n, n, -1)
    adj = torch.zeros(n, n)
    adj[row, column] = adj[column, row] = bits
    return adj


def _from_digraph6(path: Path, word: bytes) -> Tensor:
    """The whole matrix, row by row."""
    n, digits = _sized(path, word)
    return _bits(digits, n * n).reshape(n, n)


def _from_sparse6(path: Path, word: bytes) -> Tensor:
    """Steps of one bit b and a number x: b moves on to the next node, a larger x jumps there, another x is joined to it."""
    n, digits = _sized(path, word)
    check_size(path, 4 * n * n)
    adj = torch.zeros(n, n)
    width = max(1, (n - 1).bit_length())
    bits = "".join(f"{digit:06b}" for digit in digits.tolist())
    v = 0
    for start in range(0, len(bits) - width, width + 1):
        v += bits[start] == "1"
        x = int(bits[start + 1 : start + 1 + width], 2)
        if v >= n or x >= n:  # what fills up the last byte
            break
        if x > v:
            v = x
            continue
        adj[x, v] += 1
        if x != v:
            adj[v, x] += 1
    return adj
