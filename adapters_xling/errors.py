"""Errors a user can act on. Each message says what is wrong, where, what is valid and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class XlingError(Exception):
    """Root of every error that is the user's to mend; the command line prints it without a traceback."""


class SaidElsewhere(XlingError):
    """The failure of another process of the same command, which has printed it; this one ends without a word."""


class UnknownName(XlingError):
    """A name (task, language, method, setting, field, entry) that nothing here answers to."""


class ConfigError(XlingError):
    """A YAML file, a setting or a combination of settings that cannot be run."""


class DataError(XlingError):
    """Rows that cannot be read: the file, the row and the reason are in the message."""


class MissingData(DataError):
    """A file or folder of data that is not at hand; the message says how to get or point to it."""


class ZooError(XlingError):
    """An entry that is absent, incomplete, altered, or made for something else."""


class Held(XlingError):
    """Something that another process is at work on; it is free once that one is done or dead."""


class HubError(XlingError):
    """A shared zoo that cannot be reached, read or written, or that holds something it may not."""


def closest(name: str, known: Iterable[str]) -> list[str]:
    """At most two names that somebody may have meant, the closest first.

    >>> closest("ws", ["de", "sw"])  # too short to be alike by anything but its letters
    ['sw']
    """
    names = sorted(set(known))
    swapped = [one for one in names if sorted(one) == sorted(name)]
    close = swapped[:2] or difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    if not close and len(name) > 3:  # a misspelt beginning of a longer name, such as an entry's key
        begun = {one[: len(name)]: one for one in reversed(names)}
        close = [begun[one] for one in difflib.get_close_matches(name, begun, n=2, cutoff=0.8)]
    return close


def unknown(kind: str, name: str, known: Iterable[str], where: str = "") -> UnknownName:
    """Build the error for an unknown name, with the closest valid names inside the message.

    Args:
        kind: what was looked up, e.g. ``"task"``.
        name: the name as given.
        known: every valid name.
        where: a file, folder or place in which the valid names live.

    >>> print(unknown("task", "xnly", ["xnli", "mnli"]))
    unknown task 'xnly'. Did you mean 'xnli'? Known (2): mnli, xnli
    """
    names = sorted(set(known))
    close = closest(name, names)
    text = f"unknown {kind} {name!r}."
    if close:
        text += f" Did you mean {' or '.join(map(repr, close))}?"
    shown = ", ".join(names[:40]) + (", …" if len(names) > 40 else "")
    text += f" Known ({len(names)}): {shown or 'none'}"
    return UnknownName(text + (f" — {where}" if where else ""))
