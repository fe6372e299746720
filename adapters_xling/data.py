"""The verbs of `xling data`, for Python: what is at hand, locking hub data sets, checking real rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xling import api
from adapters_xling.api import Settings
from adapters_xling.errors import unknown
from adapters_xling.spec import TaskSpec

if TYPE_CHECKING:
    from adapters_xling.tasks.inventory import Cell, Checked, LockOutcome


def status(
    names: Sequence[str] = (), *, lock_file: Path | None = None, settings: Settings | None = None
) -> tuple[list[Cell], Path]:
    """Where the rows of tasks are, per split and language, and the lock file in use; asks no network.

    Args:
        names: tasks; all that are not made up by this package when none is named.
        lock_file: another lock of hub data sets than `XLING_LOCK`.
        settings: folders.
    """
    from adapters_xling.tasks import inventory
    from adapters_xling.tasks import lock as locks

    settings = settings or Settings()
    with locks.chosen(lock_file) as file:
        chosen = _tasks(names, settings)
        return [cell for one in chosen for cell in inventory.status(one, data_dir=settings.data_dir)], file


def lock(
    names: Sequence[str] = (),
    *,
    upgrade: bool = False,
    lock_file: Path | None = None,
    settings: Settings | None = None,
    on_event: Callable[[str, str], Any] = lambda *_: None,
) -> LockOutcome:
    """Pin hub data sets to the revision the hub has now; see `tasks.inventory.lock_hub`."""
    from adapters_xling.tasks import inventory
    from adapters_xling.tasks import lock as locks

    with locks.chosen(lock_file):
        return inventory.lock_hub(_tasks(names, settings or Settings()), upgrade=upgrade, on_event=on_event)


def check(
    names: Sequence[str] = (),
    *,
    limit: int | None = None,
    languages: Sequence[str] = (),
    download: bool = False,
    lock_file: Path | None = None,
    settings: Settings | None = None,
) -> Iterator[Checked]:
    """Check real rows of tasks, per split and language, as they come; see `tasks.inventory.check_rows`.

    Raises:
        UnknownName: for a task or language that does not exist.
    """
    from adapters_xling.model import load_tokenizer
    from adapters_xling.tasks import inventory, sources
    from adapters_xling.tasks import lock as locks

    settings = settings or Settings()
    with locks.chosen(lock_file):
        chosen = _tasks(names, settings)
        known = {code for one in chosen for code in one.languages + one.train_languages}
        for code in languages:
            if code not in known:
                raise unknown("language of these tasks", code, known)
        tokenizer = load_tokenizer("xlmr-nano")
        for one in chosen:
            for split, code in sources.cells(one):
                if not languages or code in languages:
                    yield inventory.check_rows(
                        one, split, code, tokenizer, data_dir=settings.data_dir, limit=limit, download=download
                    )


def _tasks(names: Sequence[str], settings: Settings) -> list[TaskSpec]:
    """The tasks named, or all whose rows are not made up."""
    from adapters_xling.tasks import inventory

    if names:
        return [api.task(name, settings) for name in dict.fromkeys(names)]
    return [one for one in api.tasks(settings) if not inventory.is_made_up(one)]
