"""Entries given to others and taken from them."""

from __future__ import annotations

from adapters_xling import hub
from adapters_xling.hub import Journey, OnStep

from .settings import Settings, open_zoo


def _quiet(key: str, what: str, done: int, total: int) -> None:
    pass


def push(
    entry: str,
    where: str,
    *,
    private: bool | None = None,
    dry_run: bool = False,
    settings: Settings | None = None,
    on_step: OnStep = _quiet,
) -> Journey:
    """Publish an entry, with the ancestors that are not there yet, in a shared zoo.

    Args:
        entry: key, or an unambiguous beginning of one.
        where: hf://owner/repository, a folder, s3://….
        private: for a repository that is made by this; private when left out.
        dry_run: only say what would be sent.
        settings: folders.
        on_step: called with entry, file, bytes done and bytes in all.

    Raises:
        HubError: saying what to do; nobody ever sees half an entry.
    """
    zoo, place = open_zoo(settings), hub.open_hub(where)
    return (
        hub.plan_push(zoo, entry, place) if dry_run else hub.push(zoo, entry, place, private=private, on_step=on_step)
    )


def pull(
    entry: str | None,
    where: str,
    *,
    dry_run: bool = False,
    settings: Settings | None = None,
    on_step: OnStep = _quiet,
) -> Journey:
    """Fetch an entry, with its ancestors, from a shared zoo into yours; all of one revision, verified to the byte.

    Args:
        entry: key or short name there; None for the one entry the place is about.
        where: hf://owner/repository[@revision], a folder, s3://…, https://….
        dry_run: only say what would be fetched.
        settings: folders.
        on_step: called with entry, file, bytes done and bytes in all.

    Raises:
        HubError: when the place cannot be read, or holds something no entry may be.
        ZooError: when what arrived is not what its card says.
    """
    zoo, place = open_zoo(settings), hub.open_hub(where)
    return hub.plan_pull(zoo, entry, place) if dry_run else hub.pull(zoo, entry, place, on_step=on_step)
