"""Reads the part of YAML that examples/deploy/kubernetes.yaml is written in, where PyYAML cannot be had."""

import json
import re
from typing import Any

WORD = re.compile(r'"[^"]*"|[^{}\[\],:\s"][^{}\[\],:"]*')


def documents(text: str) -> list[Any]:
    return [Reader(part).block() for part in text.split("\n---\n")]


class Reader:
    def __init__(self, text: str) -> None:
        lines = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
        self.lines = lines[::-1]

    def indent(self) -> int:
        return len(self.lines[-1]) - len(self.lines[-1].lstrip(" ")) if self.lines else -1

    def block(self) -> Any:
        """The value whose lines come next: all that are indented as the first of them."""
        indent = self.indent()
        if self.lines[-1].lstrip().startswith("- "):
            items = []
            while self.indent() == indent and self.lines[-1].lstrip().startswith("- "):
                rest = self.lines.pop()[indent + 2 :]
                if re.match(r"[\w-]+:( |$)", rest):  # a mapping that begins behind the dash
                    self.lines.append(" " * (indent + 2) + rest)
                    items.append(self.block())
                else:
                    items.append(flow(rest))
            return items
        mapping = {}
        while self.indent() == indent and not self.lines[-1].lstrip().startswith("- "):
            name, _, rest = self.lines.pop().strip().partition(":")
            mapping[name] = flow(rest.strip()) if rest.strip() else self.block()
        return mapping


def flow(text: str) -> Any:
    """A value that stands in one line."""
    if text[0] in "{[":
        return json.loads(
            re.sub(WORD, lambda word: word[0] if word[0][0] == '"' else json.dumps(scalar(word[0])), text)
        )
    return scalar(text)


def scalar(text: str) -> Any:
    if text[0] == '"':
        return json.loads(text)
    return {"true": True, "false": False}.get(text, int(text) if text.isdecimal() else text)
