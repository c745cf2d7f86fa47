"""The errors that GeoVQ raises on purpose.

Every message names the input, what was found, what was expected and what to do, on one line: the command
line prints it as it is.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class GeovqError(Exception):
    """Something that GeoVQ noticed went wrong. The command line prints it and exits with ``exit_code``."""

    exit_code = 1


class InputError(GeovqError, ValueError):
    """The user's input is wrong: a value, a name, a file. Nothing was written."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration names something unknown or holds a value of the wrong kind."""


class DataError(InputError):
    """Images cannot be used: missing, truncated, of the wrong shape or type, or not finite."""


class CorruptArtifactError(InputError):
    """A stored file is not what its manifest says: truncated, altered, or of another version."""


class StorageError(InputError):
    """A folder cannot be written: it holds another run, or the disk is full."""


class TrainingError(GeovqError):
    """Training cannot go on: a loss that is not finite, named with its step."""


def unknown_name(what: str, name: str, valid: Iterable[str]) -> str:
    """Message for a name that does not exist, with the nearest that does.

    >>> unknown_name("recipe", "mnist-frist", ["digits", "mnist-first"])
    "unknown recipe 'mnist-frist'; did you mean 'mnist-first'? Valid: digits, mnist-first"
    """
    names = sorted(valid)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"unknown {what} '{name}'; {hint}Valid: {', '.join(names)}"
