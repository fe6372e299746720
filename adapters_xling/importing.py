"""Adapters that were made elsewhere become entries: read strictly, put on a backbone, written anew, unknowns said.

Two formats are read: a folder of the adapters library (AdapterHub, MAD-X) and one of plain peft with LoRA, both as
safetensors. Names of a task-model class (``roberta.encoder…``) are mapped to the bare encoder's; a weight that has no
place there is an error, never left out in silence.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters_xling import hub_files, spec
from adapters_xling.errors import ConfigError, XlingError, ZooError
from adapters_xling.hub_files import NotServed
from adapters_xling.methods import method_class
from adapters_xling.methods.native import read_json, read_tensors
from adapters_xling.methods.slots import slot_name
from adapters_xling.model import LoadedBackbone, load_backbone
from adapters_xling.model.backbone import one_at_a_time
from adapters_xling.model.saving import ENCODER
from adapters_xling.spec import Imported, Recipe, RunSpec, TaskRef, Use
from adapters_xling.zoo import Entry, Facts, Zoo, file_digest

UNKNOWN = "unknown"
"""Name of the task of an adapter whose training nobody described."""
_HF = "hf://"
HEADS = ("classifier", "score", "qa_outputs")
"""Beginnings of names that task-model classes give their heads."""
_PREFIXES = ("roberta.", "xlm_roberta.", "bert.", "base_model.model.")
"""Attributes by which task-model classes hold their encoder."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """Files of a library.

    Attributes:
        method: ours that reads them.
        weights: its safetensors file.
        pickled: what the library also calls it, pickled.
        prefix: what every name of a weight begins with.
        states: fields of its configuration that name the backbone.
    """

    method: str
    weights: str
    pickled: str
    prefix: str
    states: tuple[str, ...]


CONFIG = "adapter_config.json"
FORMATS = (
    Format(
        method="lora",
        weights="adapter_model.safetensors",
        pickled="adapter_model.bin",
        prefix="base_model.model.",
        states=("base_model_name_or_path",),
    ),
    Format(
        method="bottleneck",
        weights="adapter.safetensors",
        pickled="pytorch_adapter.bin",
        prefix="",
        states=("model_name",),
    ),
)


@one_at_a_time
def import_adapter(
    source: str,
    *,
    zoo: Zoo,
    backbone: str,
    recipe: Recipe,
    task: str = UNKNOWN,
    licence: str = UNKNOWN,
    drop: tuple[str, ...] = (),
    other_backbone: bool = False,
) -> Entry:
    """Make an entry of an adapter from a folder, or from a repository of the model hub.

    The entry has no head, no scores and no probe; to use it, start Warm from it or stand on it.

    Args:
        source: folder, or hf://owner/repository[@revision].
        zoo: where the entry goes.
        backbone: name or folder of the encoder it was trained on.
        recipe: says how entries that descend from it are pooled and cut; nothing was trained with it.
        task: what it was trained on, if you know.
        licence: its licence, if you know.
        drop: beginnings of names of weights that may be left behind (a task-model class's head: ``classifier``).
        other_backbone: accept files that name another backbone than this.

    Raises:
        ZooError: for files that are absent, pickled, not what a library writes, or not for this backbone; and for an
            adapter that is here already under another licence.
        ConfigError: for a source that is neither.
    """
    with _folder(source) as (folder, origin):
        which = _format(folder)
        loaded = load_backbone(backbone, zoo=zoo)
        _refuse_other(folder, which, loaded, accept=other_backbone)
        digest = hashlib.sha256(
            "".join(f"{name}\0{file_digest(folder / name)}\n" for name in (CONFIG, which.weights)).encode()
        ).hexdigest()
        with tempfile.TemporaryDirectory(prefix="xling-import-") as aside, _named(aside, str(folder)):
            plain = Path(aside)
            left = _rewrite(folder, plain, which, drop)
            method = method_class(which.method).of_files(loaded.encoder, plain)
            slot = slot_name(0)
            method.load(loaded.encoder, slot, plain)
            method.activate(loaded.encoder, Use(entry=slot))
        run = RunSpec(
            backbone=loaded.id,
            tasks=(TaskRef(name=task, digest="0" * 64),),
            method=method.spec(),
            recipe=recipe,
            init=Imported(source=origin, digest=digest),
        )
        name = spec.key(run)
        with zoo.writing(run) as draft:
            method.save(loaded.encoder, slot, draft.folder / ENCODER, name=name.replace(".", "-"), backbone=loaded.id)
            added = [p for n, p in loaded.encoder.named_parameters() if method.backbone_name(n) is None]
            notes = f"Imported from {origin}. Its training data, recipe, seed and scores are unknown."
            draft.finish(
                Facts(
                    backbone_fingerprint=loaded.fingerprint,
                    backbone_licence=loaded.licence,
                    heads={},
                    probe=None,
                    training=None,
                    num_trainable=sum(parameter.numel() for parameter in added),
                    num_parameters=sum(parameter.numel() for parameter in loaded.encoder.parameters()),
                    licence=licence,
                    notes=notes + (f" Left behind: {', '.join(left)}." if left else ""),
                )
            )
    assert draft.entry is not None
    there = draft.entry.card.licence
    if licence not in (UNKNOWN, there):  # no part of the key: the entry that was here was kept as it is
        raise ZooError(
            f"entry {name} is here already, with licence {there!r}; a card is never changed: remove it (xling zoo rm "
            f"{name}) and import it again with licence {licence!r}"
        )
    return draft.entry


# --- inside -----------------------------------------------------------------------------------------------------


@contextmanager
def _folder(source: str) -> Iterator[tuple[Path, str]]:
    """A folder with the adapter's files, and what to call where it came from (no path of this machine)."""
    if not source.startswith(_HF):
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise ConfigError(f"{source}: no such folder; for the model hub write hf://owner/repository")
        yield folder, folder.resolve().name
        return
    from adapters_xling.hub import parse

    address = parse(source)
    try:
        listing = hub_files.listing(address.path, address.revision, kind="model")
        wanted = [one for one in (CONFIG, *(f.weights for f in FORMATS)) if one in listing.files]
        pickled = [f.pickled for f in FORMATS if f.pickled in listing.files]
        with tempfile.TemporaryDirectory(prefix="xling-import-") as aside:
            for name in wanted:
                path = hub_files.fetch(address.path, name, revision=listing.commit, kind="model")
                shutil.copyfile(path, Path(aside) / name)
            for name in pickled:
                (Path(aside) / name).touch()  # it is named in the error, never read
            with _named(aside, source):
                yield Path(aside), f"{_HF}{address.path}@{listing.commit}"
    except NotServed as err:
        raise ZooError(f"{source}: {err}") from err


@contextmanager
def _named(aside: str, source: str) -> Iterator[None]:
    """Name the source in errors, instead of the folder that its files lie in for the moment."""
    try:
        yield
    except XlingError as err:
        raise type(err)(str(err).replace(aside, source)) from err


def _format(folder: Path) -> Format:
    """Whose files these are, by their names.

    Raises:
        ZooError: for pickled weights, and for a folder that is no adapter's.
    """
    for name in (CONFIG, *(one.weights for one in FORMATS)):
        if (folder / name).is_symlink():
            raise ZooError(f"{folder / name}: is a symbolic link; give the folder with the files themselves")
    if not (folder / CONFIG).is_file():
        raise ZooError(f"{folder}: no {CONFIG}; an adapter's folder of the adapters library or of peft has one")
    found = [one for one in FORMATS if (folder / one.weights).is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        raise ZooError(f"{folder}: holds weights of two libraries ({', '.join(one.weights for one in found)})")
    for one in FORMATS:
        if (folder / one.pickled).exists():
            raise ZooError(
                f"{folder}: {one.pickled} is pickled, and reading such files can run code, so they are never read. "
                "Where you trust its maker, convert it: safetensors.torch.save_file(torch.load(file, "
                f"weights_only=True), {one.weights!r})"
            )
    raise ZooError(f"{folder}: no weights; read are {', '.join(one.weights for one in FORMATS)}")


def _refuse_other(folder: Path, which: Format, loaded: LoadedBackbone, *, accept: bool) -> None:
    """Refuse an adapter that says it was made for another backbone: equal shapes would hide it.

    Raises:
        ZooError: naming both.
    """
    config = read_json(folder / CONFIG)
    stated = next((config[field] for field in which.states if config.get(field)), None)
    known = {_last(loaded.id.name), _last(loaded.id.repo)}
    if stated is not None and _last(str(stated)) not in known and not accept:
        raise ZooError(
            f"{folder / CONFIG}: says it was made for {str(stated)[:100]!r}, this backbone is {loaded.id.name!r}. Give "
            "the right one with --backbone, or --other-backbone if they are the same under two names"
        )


def _last(name: str) -> str:
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1].lower()


def _rewrite(folder: Path, plain: Path, which: Format, drop: tuple[str, ...]) -> list[str]:
    """Write the files anew with the bare encoder's names; returns the names of weights that were left behind.

    Raises:
        ZooError: for two weights that would get one name.
    """
    from safetensors.torch import save_file

    (plain / CONFIG).write_text(json.dumps(_config(folder, which, drop)), encoding="utf-8")
    tensors: dict[str, Any] = {}
    left = []
    for name, tensor in read_tensors(folder / which.weights).items():
        bare = name.removeprefix(which.prefix)
        prefix = next((one for one in _PREFIXES if bare.startswith(one)), "")
        if not prefix and any(bare.startswith(one) for one in drop):
            left.append(name)
            continue
        mapped = which.prefix + bare.removeprefix(prefix)
        if mapped in tensors:
            raise ZooError(f"{folder / which.weights}: {name} and another weight are both {mapped} on a bare encoder")
        tensors[mapped] = tensor.contiguous()
    save_file(tensors, plain / which.weights, metadata={"format": "pt"})
    return sorted(left)


def _config(folder: Path, which: Format, drop: tuple[str, ...]) -> dict[str, Any]:
    """The configuration, without the extra modules whose weights may be left behind, and without a remark of peft's.

    peft notes the class it wrapped (`auto_mapping`) and looks it up again when it loads; nothing is looked up here.

    Raises:
        ZooError: for the head of a task-model class that may not be left behind.
    """
    config = read_json(folder / CONFIG)
    noted = config.get("auto_mapping")
    if isinstance(noted, dict) and str(noted.get("parent_library")).startswith("transformers."):
        config["auto_mapping"] = None
    extra = config.get("modules_to_save")
    names = extra if isinstance(extra, list) and all(isinstance(one, str) for one in extra) else []
    if names and all(one.startswith(drop) for one in names):
        config["modules_to_save"] = None
    elif names and not drop and all(one.startswith(HEADS) for one in names):
        raise ZooError(
            f"{folder / CONFIG}: modules_to_save is {names}: its files hold the head of a task-model class, which no "
            "entry takes over; give --without-head (Python: with_head=False) to leave it behind"
        )
    return config
