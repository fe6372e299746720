"""Entries given to others and taken from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adapters_xling import hub
from adapters_xling.errors import ConfigError
from adapters_xling.hub import Hub, Journey, OnStep

from .entries import entry_readme
from .models import default_recipe
from .settings import Settings, named_folder, open_zoo

if TYPE_CHECKING:
    from adapters_xling.exporting import Export
    from adapters_xling.zoo import Entry


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
    if dry_run:
        return hub.plan_push(zoo, entry, place, private=private)
    return hub.push(
        zoo, entry, place, private=private, describe=lambda one: entry_readme(one.key, settings), on_step=on_step
    )


def pull(
    entry: str | None,
    where: str | Hub,
    *,
    dry_run: bool = False,
    settings: Settings | None = None,
    on_step: OnStep = _quiet,
) -> Journey:
    """Fetch an entry, with its ancestors, from a shared zoo into yours; all of one revision, verified to the byte.

    Args:
        entry: key or short name there; None for the one entry the place is about.
        where: hf://owner/repository[@revision], a folder, s3://…, https://…; or a place that was opened, so that
            several entries are of one commit.
        dry_run: only say what would be fetched.
        settings: folders.
        on_step: called with entry, file, bytes done and bytes in all.

    Raises:
        HubError: when the place cannot be read, or holds something no entry may be.
        ZooError: when what arrived is not what its card says.
    """
    zoo, place = open_zoo(settings), hub.open_hub(where) if isinstance(where, str) else where
    return hub.plan_pull(zoo, entry, place) if dry_run else hub.pull(zoo, entry, place, on_step=on_step)


def export(
    entry: str,
    to: str | Path,
    *,
    form: str = "encoder",
    name: str | None = None,
    backbone: str | None = None,
    settings: Settings | None = None,
) -> Export:
    """Write an entry, with everything it stands on, in a form that needs nothing of ours.

    Args:
        entry: key, or an unambiguous beginning of one.
        to: a folder that does not exist yet.
        form: ``encoder`` (merged), ``token-classification`` and other task-model classes of transformers, or ``onnx``.
        name: task whose head, for an entry with several.
        backbone: folder of the entry's local backbone, where it cannot be found by its name.
        settings: folders.

    Raises:
        ConfigError: when the entry cannot take that form, saying which it can.
        ZooError: when the export does not answer as the entry does; nothing is written then.
    """
    zoo = open_zoo(settings)
    key = zoo.resolve(entry)
    from adapters_xling.exporting import export as write  # once the name is right: it loads torch

    return write(key, Path(to), zoo=zoo, form=form, task=name, backbone=named_folder(backbone))


def import_adapter(
    source: str,
    *,
    backbone: str,
    name: str | None = None,
    licence: str = "unknown",
    with_head: bool = True,
    other_backbone: bool = False,
    recipe: str | None = None,
    settings: Settings | None = None,
) -> Entry:
    """Make an entry of an adapter of the adapters library or of plain peft (LoRA), to start from or to stand on.

    Args:
        source: folder, or hf://owner/repository[@revision]; safetensors only.
        backbone: name or folder of the encoder it was trained on.
        name: what it was trained on, if you know.
        licence: its licence, if you know.
        with_head: False leaves a task-model class's head in the files behind; else it is refused.
        other_backbone: accept files that name another backbone.
        recipe: whose pooling and lengths its descendants compare with.
        settings: folders.

    Raises:
        ZooError: for files that are absent, pickled, or do not fit the backbone.
    """
    from adapters_xling import grid
    from adapters_xling.model import family_of
    from adapters_xling.recipes import resolve_recipe

    family_of(backbone)
    if "://" not in source and not Path(source).expanduser().is_dir():
        raise ConfigError(f"{source}: no such folder; for the model hub write hf://owner/repository")
    resolved = resolve_recipe(grid.recipes(), recipe or default_recipe(backbone), method="lora", kind="sentence")
    from adapters_xling.importing import HEADS, UNKNOWN  # once the names are right: it loads torch
    from adapters_xling.importing import import_adapter as read

    return read(
        source,
        zoo=open_zoo(settings),
        backbone=backbone,
        recipe=resolved,
        task=name or UNKNOWN,
        licence=licence,
        drop=() if with_head else HEADS,
        other_backbone=other_backbone,
    )
