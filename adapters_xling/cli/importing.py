"""`xling import`: an adapter that was made elsewhere becomes an entry."""

from __future__ import annotations

from typing import Any

import click

from adapters_xling import api
from adapters_xling.cli.common import folders, settings_from


@click.command("import")
@click.argument("source")
@click.option("--backbone", required=True, help="Name or folder of the encoder it was trained on.")
@click.option("--task", help="What it was trained on, if you know.")
@click.option("--licence", default="unknown", show_default=True, help="Its licence, if you know.")
@click.option("--without-head", is_flag=True, help="Leave the head of a task-model class in its files behind.")
@click.option("--other-backbone", is_flag=True, help="Accept files that name another backbone than this one.")
@folders
def import_(
    source: str,
    backbone: str,
    task: str | None,
    licence: str,
    without_head: bool,
    other_backbone: bool,
    **options: Any,
) -> None:
    """Make an entry of an adapter of the adapters library (AdapterHub, MAD-X) or of plain peft (LoRA).

    SOURCE is a folder or hf://owner/repository, with safetensors; pickled files are never read. What is unknown
    about the adapter stays unknown on its card. Start from it (xling train --warm) or stand on it (--stack).
    """
    entry = api.import_adapter(
        source,
        backbone=backbone,
        name=task,
        licence=licence,
        with_head=not without_head,
        other_backbone=other_backbone,
        settings=settings_from(options),
    )
    click.echo(entry.key)
    click.echo(entry.card.notes)
