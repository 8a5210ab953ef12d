"""YAML without its silent trap: a key that is given twice, of which only the last would count, is refused."""

from collections.abc import Hashable
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            # The text of a scalar; lists and mappings are no keys of ours, and are refused below.
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else id(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    "in a mapping", node.start_mark, f"found {key!r} twice; give it once", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> Any:
    """What the text says. Raises yaml.YAMLError, which names line and column where it can."""
    try:
        return yaml.load(text, _Loader)
    except (ValueError, RecursionError) as error:
        # A date that is none, a number of thousands of digits, lists without end: YAML lets these through.
        raise yaml.YAMLError(f"a value cannot be read: {error}") from error
