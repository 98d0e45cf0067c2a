from __future__ import annotations

import dataclasses
import enum
import typing


@dataclasses.dataclass(slots=True)
class Item:
    name: str
    parent: Item | None = None
    colour: Colour = dataclasses.field(default_factory=lambda: Colour.RED)


class Colour(enum.Enum):
    RED = 1


class Named(typing.NamedTuple):
    item: Item


def hints():
    return typing.get_type_hints(Item)
