"""YAML files from outside."""

import os
from typing import Any

import yaml

from .files import MOST_DEPTH, Name, printable, read_file

_MOST_BYTES = 2**20  # which take seconds
_MOST_NODES = 1_000_000  # when aliases are written out


def read_yaml(path: Name, what: str = 'file', kind: type = object) -> Any:
    """Contents of a YAML file from outside: plain values, as limited as JSON by ``read_json``.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
        ValueError: it is not YAML of plain values, not of that kind, or too large when its aliases
            are written out. The message names the file.
    """
    data, name = read_file(path, what, _MOST_BYTES), f'{what} {printable(os.fspath(path))}'
    try:
        loader = yaml.SafeLoader(data)
        node = loader.get_single_node()
        if node is not None:
            _check_node(node, {}, 0)
        contents = None if node is None else loader.construct_document(node)
    except RecursionError:
        raise ValueError(f'{name} is nested deeper than {MOST_DEPTH}') from None
    except Exception as error:  # constructors raise anything for values that they do not expect
        raise ValueError(f'{name} is not YAML of plain values: {printable(error)}') from error
    if not isinstance(contents, kind):
        raise ValueError(f'{name} holds a {type(contents).__name__} and not a {kind.__name__}')
    return contents


def _check_node(node: yaml.Node, sizes: dict[int, int], depth: int) -> int:
    """How many nodes one is when every alias is written out."""
    if depth > MOST_DEPTH:  # also what contains itself
        raise RecursionError
    if id(node) in sizes:
        return sizes[id(node)]
    children = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [each for pair in node.value for each in pair]
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            raise ValueError(f'line {node.start_mark.line + 1}: a mapping has one key twice')
    size = 1 + sum(_check_node(child, sizes, depth + 1) for child in children)
    if size > _MOST_NODES:
        raise ValueError(f'its aliases stand for more than {_MOST_NODES:,} values')
    sizes[id(node)] = size
    return size
