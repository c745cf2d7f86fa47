"""Configurations to and from JSON.

Reading is strict: an unknown key is refused with the nearest valid one, a value of the wrong type with its
path.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from geovq.errors import ConfigError, unknown_name

T = TypeVar("T")


def to_json(config: Any) -> Any:
    """Plain JSON values of a configuration (dataclasses to objects, tuples to lists)."""
    if dataclasses.is_dataclass(config):
        return {f.name: to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {key: to_json(value) for key, value in config.items()}
    if isinstance(config, tuple | list):
        return [to_json(value) for value in config]
    return config


def from_json(kind: type[T], value: Any, path: str = "") -> T:
    """The configuration of type ``kind`` that ``value`` describes.

    Raises ``ConfigError`` naming the dotted path, what was found and what was expected.
    """
    return typing.cast(T, _read(kind, value, path))


def with_overrides(config: T, assignments: list[str]) -> T:
    """A copy of ``config`` with dotted ``key=value`` assignments (``--set``) applied.

    Values are JSON; what is not JSON is a string. Items of a list of named objects are reached by name:
    ``arms.residual.tune.epochs=3``.
    """
    tree = to_json(config)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment}: expected key=value")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        _assign(tree, key, value)
    return from_json(type(config), tree)


def check_choices(config: Any) -> None:
    """Refuse a value that is none of its field's ``Literal``, which only reading from JSON would notice."""
    for name, kind in typing.get_type_hints(type(config)).items():
        value, choices = getattr(config, name), typing.get_args(kind)
        if typing.get_origin(kind) is Literal and value not in choices:
            raise ConfigError(f"{name} is '{value}'; expected one of {', '.join(choices)}")


def _assign(tree: Any, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    node, walked = tree, ""
    for part in parents:
        node = _child(node, part, walked, key)
        walked += f"{part}."
    if isinstance(node, list):
        _child(node, last, walked, key)  # refuses an unknown item
        raise ConfigError(f"--set {key}: an item of a list is set field by field, as in {key}.FIELD=VALUE")
    # Parameters of a Spec may be new; anything else must exist, and the typed read below knows the names.
    if not isinstance(node, dict):
        raise ConfigError(f"--set {key}: {walked.rstrip('.')} is {node!r} and has no fields")
    node[last] = value


def _child(node: Any, part: str, walked: str, key: str) -> Any:
    if isinstance(node, list):
        children = {
            item.get("name", str(i)) if isinstance(item, dict) else str(i): item
            for i, item in enumerate(node)
        }
    elif isinstance(node, dict):
        children = node
    else:
        raise ConfigError(f"--set {key}: {walked.rstrip('.')} is {node!r} and has no fields")
    if part not in children:
        raise ConfigError(unknown_name("key", f"{walked}{part}", [f"{walked}{name}" for name in children]))
    return children[part]


def _read(kind: Any, value: Any, path: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _read_union(arguments, value, path)
    if origin is typing.Literal:
        _expect(value in arguments, path, value, f"one of {', '.join(map(str, arguments))}")
        return value
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, value, path)
    if origin is tuple:
        return _read_tuple(arguments, value, path)
    if origin in (Sequence, list):
        return list(_read_tuple((*arguments, ...), value, path))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        _expect(isinstance(value, Mapping), path, value, "an object")
        return {key: _read(arguments[1], item, _join(path, key)) for key, item in value.items()}
    if kind is float:
        _expect(isinstance(value, int | float) and not isinstance(value, bool), path, value, "a number")
        _expect(abs(value) <= sys.float_info.max, path, value, "a finite number")
        return float(value)
    if kind is int:
        _expect(isinstance(value, int) and not isinstance(value, bool), path, value, "a whole number")
        return value
    if not isinstance(kind, type):
        return value  # an annotation beyond JSON's types: the component itself must judge
    _expect(isinstance(value, kind), path, value, {str: "text", bool: "true or false"}.get(kind, str(kind)))
    return value


def _read_union(arguments: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    members = [kind for kind in arguments if kind is not type(None)]
    for kind in members[:-1]:
        try:
            return _read(kind, value, path)
        except ConfigError:
            continue
    return _read(members[-1], value, path)


def _read_dataclass(kind: Any, value: Any, path: str) -> Any:
    _expect(isinstance(value, Mapping), path, value, "an object")
    hints = typing.get_type_hints(kind)
    for key in value:
        if key not in hints:
            valid = [_join(path, name) for name in hints]
            raise ConfigError(unknown_name("key", _join(path, key), valid))
    for f in dataclasses.fields(kind):
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and f.name not in value:
            raise ConfigError(f"key '{_join(path, f.name)}' is missing")
    read = {key: _read(hints[key], item, _join(path, key)) for key, item in value.items()}
    try:
        return kind(**read)
    except ConfigError as error:
        raise ConfigError(_join(path, str(error))) from None


def _read_tuple(arguments: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    _expect(isinstance(value, list | tuple), path, value, "a list")
    if arguments[-1] is Ellipsis:
        kinds = [arguments[0]] * len(value)
    else:
        kinds = list(arguments)
        _expect(len(value) == len(kinds), path, value, f"a list of {len(kinds)}")
    return tuple(_read(kinds[i], item, _join(path, str(i))) for i, item in enumerate(value))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _expect(condition: bool, path: str, value: Any, expected: str) -> None:
    if not condition:
        raise ConfigError(f"key '{path}' is {json.dumps(value, default=str)}; expected {expected}")
