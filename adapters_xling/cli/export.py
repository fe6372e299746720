"""`xling export`: an entry in a form that needs nothing of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from adapters_xling import api
from adapters_xling.cli.common import folders, settings_from, size


@click.command()
@click.argument("entry")
@click.option("--to", required=True, type=click.Path(path_type=Path), help="A folder that does not exist yet.")
@click.option(
    "--for",
    "form",
    metavar="FORM",
    default="encoder",
    show_default=True,
    help="encoder (merged), token-classification, question-answering, or onnx.",
)
@click.option("--task", help="Task whose head, for an entry with several.")
@click.option("--backbone", help="Folder of the entry's local backbone, where it cannot be found by its name.")
@folders
def export(entry: str, to: Path, form: str, task: str | None, backbone: str | None, **options: Any) -> None:
    """Write an entry, with everything it stands on, in a form that needs nothing of ours.

    What was written is loaded again by the library it is for and compared with the entry's own answers.
    """
    done = api.export(entry, to, form=form, name=task, backbone=backbone, settings=settings_from(options))
    for name in done.files:
        click.echo(f"{size((done.folder / name).stat().st_size):>9}  {done.folder / name}")
    if done.difference is not None:
        click.echo(f"answers as the entry does: largest difference {done.difference:.1e}")
