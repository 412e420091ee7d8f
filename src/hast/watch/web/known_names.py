"""A node that does not answer keeps the name that it had when it did. Pure, with a memory."""

from __future__ import annotations

from dataclasses import replace

from hast.watch.picture import Node, Picture


class KnownNames:
    """Of the nodes with the other copies; before one has answered its address has to do."""

    def __init__(self) -> None:
        self._name_of: dict[str, str] = {}
        """By resource."""

    def put_into(self, picture: Picture) -> Picture:
        """The picture with names; also learns those that are in it."""
        self._name_of |= {
            pair.name: pair.other.name for pair in picture.pairs if pair.other is not None and not pair.other.error
        }
        named = {id(node): node for node in picture.nodes}
        for pair in picture.pairs:
            if pair.other is not None and pair.other.error:
                named[id(pair.other)] = self._named(pair.other, pair.name)
        pairs = tuple(
            replace(pair, other=named.get(id(pair.other), pair.other)) if pair.other is not None else pair
            for pair in picture.pairs
        )
        return Picture(tuple(named[id(node)] for node in picture.nodes), pairs)

    def _named(self, node: Node, resource: str) -> Node:
        return replace(node, name=self._name_of.get(resource) or node.name.partition("://")[2] or node.name)
