"""Symmetry: a group, and how it acts on the input and on the output of a model."""

from __future__ import annotations

from erlangen.actions import ActionLike, GroupAction, parse_action
from erlangen.errors import ActionError, GroupError, SymmetryError
from erlangen.groups import Domain, Group, Range
from erlangen.groups import domain as parse_domain


class Symmetry:
    """The statement f(g x) = g f(x): a group and its actions on inputs and outputs.

    >>> import erlangen as er
    >>> er.Symmetry("SO(3)", input="points", output="invariant")
    Symmetry(SO(3): points -> invariant)

    Args:
        group: a `Group`, or its name such as "SO(3)"; or a range of one, ``er.SO(2).within(degrees=15)`` or "SO(2) within 15
            degrees": then the statement is about these elements alone, which are no group.
        input: the action on inputs: a string ("points", "vectors + vectors"), an `Action`, a dict or tuple of these
            for structured data, or a function ``fn(g, x)``.
        output: the same for outputs. It is never assumed: write "invariant" for predictions that must not change.

    Attributes:
        group: the group; of a range, that to which its elements belong.
        within: the range, or ``None``.
        input, output: the actions.

    Raises:
        SymmetryError: `input` or `output` is missing.
        ActionError: an action does not fit the group.
        GroupError: `group` is neither a group nor a name, or its numbers do not fit.
        UnknownNameError: a name is not known.
    """

    def __init__(
        self,
        group: Group | Range | str,
        *,
        input: ActionLike | None = None,  # noqa: A002
        output: ActionLike | None = None,
    ) -> None:
        if not isinstance(group, (Group, Range, str)):
            given = f"the class {group.__name__}" if isinstance(group, type) else f"a {type(group).__name__}"
            raise GroupError(f"group is {given}; give a group such as er.SO(3), or its name 'SO(3)'")
        domain = parse_domain(group)
        self.within: Range | None = domain if isinstance(domain, Range) else None
        self.group: Group = domain.group if isinstance(domain, Range) else domain
        self.input: GroupAction = self._bind(
            "input", input, "how the group moves the model's input, for example 'points'"
        )
        self.output: GroupAction = self._bind(
            "output", output, "'invariant' if predictions must not change, or the action that moves them"
        )

    def _bind(self, side: str, spec: ActionLike | None, meaning: str) -> GroupAction:
        if spec is None:
            raise SymmetryError(f"{side} is missing: declare {side}={meaning}")
        try:
            return parse_action(spec, name=side).on(self.group)
        except ActionError as error:
            raise ActionError(f"{side}: {error}") from error

    @property
    def domain(self) -> Domain:
        """The elements that the statement is about: the range where there is one, else the group."""
        return self.group if self.within is None else self.within

    @property
    def is_invariance(self) -> bool:
        """Whether the output action is trivial."""
        return self.output.name.startswith("invariant") and "+" not in self.output.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Symmetry) and (
            (self.domain, self.input, self.output) == (other.domain, other.input, other.output)
        )

    def __hash__(self) -> int:
        return hash((self.domain, self.input.name, self.output.name))

    def __repr__(self) -> str:
        return f"Symmetry({self.domain.name}: {self.input.name} -> {self.output.name})"
