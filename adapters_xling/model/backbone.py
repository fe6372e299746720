"""Backbones: where their files are, what identifies them, how they are loaded and fingerprinted.

Importing this module loads no deep-learning library; `backbone_id` never does.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xling import paths
from adapters_xling.backbones import BACKBONES, FAMILIES, Backbone, Family, backbone
from adapters_xling.errors import ConfigError, UnknownName, ZooError, unknown
from adapters_xling.spec import BackboneId
from adapters_xling.zoo import Zoo, file_digest

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_FILES = (CONFIG, "tokenizer.json", WEIGHTS)


@dataclass(frozen=True)
class LoadedBackbone:
    """A pretrained encoder in memory, frozen and in eval mode, with everything that belongs to it.

    Attributes:
        encoder: the bare encoder, without pooling layer and heads.
        tokenizer: its fast tokenizer.
        id: what was loaded, with the digest of the weight file.
        family: its architecture.
        row: its row in `backbones.py`, or one made from its configuration for a local folder.
        fingerprint: sha256 over the loaded tensors.
    """

    encoder: nn.Module
    tokenizer: Any
    id: BackboneId
    family: Family
    row: Backbone
    fingerprint: str


def backbone_id(name: str, *, zoo: Zoo | None = None) -> BackboneId:
    """Identify a backbone without loading it: digest of its weight file, remembered while the file stays the same.

    Args:
        name: a name from `backbones.py`, or a local folder with config.json, tokenizer.json and model.safetensors.
        zoo: where to look for backbones beside what ships with the package.

    Returns:
        The identity; `digest` is None for a hub backbone that was not downloaded yet (it can be planned with).

    Raises:
        UnknownName: when it is neither.
        ZooError: when a shipped or local folder is incomplete.
    """
    return _identify(name, _find(name, zoo=zoo, revision=None, download=False))


def load_backbone(name: str | BackboneId, *, zoo: Zoo | None = None, device: Any = "cpu") -> LoadedBackbone:
    """Load encoder and tokenizer of a backbone, from safetensors only; hub backbones are downloaded when need be.

    Args:
        name: name or local folder, or the identity a run or card holds, which then must be met to the byte.
        zoo: where to look for backbones beside what ships with the package.
        device: where the encoder goes.

    Raises:
        UnknownName: for a backbone nobody knows.
        ZooError: when files are missing, unreachable, incomplete, or are not those of the identity.
    """
    import torch
    from transformers.utils import logging

    wanted = name if isinstance(name, BackboneId) else None
    name = wanted.name if wanted else str(name)
    folder = _find(name, zoo=zoo, revision=wanted.revision if wanted else None, download=True)
    found = _identify(name, folder)
    if folder is None or found.digest is None:
        raise ZooError(f"backbone {name!r}: its files could not be found")
    if wanted and wanted.digest and wanted.digest != found.digest:
        raise ZooError(
            f"backbone {name!r} was {_short(wanted)}, what lies in {folder} is {_short(found)}; "
            "pull that backbone or retrain"
        )
    config = _read_config(folder)
    family = _family(config, folder)
    row = BACKBONES.get(name) or _row(name, family, config)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it lists the LM head as unused; what matters is checked below
    try:
        encoder, info = _class(family.encoder_class).from_pretrained(
            folder,
            add_pooling_layer=False,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
        tokenizer = _class(family.tokenizer_class).from_pretrained(folder, local_files_only=True)
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
    encoder.requires_grad_(False)
    encoder.eval().to(device)
    return LoadedBackbone(encoder, tokenizer, found, family, row, fingerprint(encoder))


def load_tokenizer(name: str, *, zoo: Zoo | None = None) -> Any:
    """Load only a backbone's fast tokenizer.

    Raises:
        UnknownName: for a backbone nobody knows.
        ZooError: when its files cannot be had.
    """
    folder = _find(name, zoo=zoo, revision=None, download=True)
    assert folder is not None
    family = _family(_read_config(folder), folder)
    return _class(family.tokenizer_class).from_pretrained(folder, local_files_only=True)


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
    """Refuse a backbone other than the one something was trained on.

    Raises:
        ZooError: naming both and the way out.
    """
    if (found.repo, found.revision, found.digest) != (wanted.repo, wanted.revision, wanted.digest):
        raise ZooError(
            f"{who} was trained on {_short(wanted)}, this run uses {_short(found)}; pull that backbone or retrain"
        )


def _short(one: BackboneId) -> str:
    mark = one.revision[:7] if one.revision else f"sha256:{(one.digest or 'unlocked')[:12]}"
    return f"{one.name}@{mark}"


def _find(name: str, *, zoo: Zoo | None, revision: str | None, download: bool) -> Path | None:
    """Folder of a backbone's files; None for a hub backbone that is not here and may not be downloaded."""
    row = BACKBONES.get(name)
    if row is not None and row.repo is not None:
        return _hub(row, revision or row.revision, download=download)
    if row is None and Path(name).is_dir():
        return _complete(Path(name))
    try:
        return _complete((zoo or Zoo(paths.shipped_zoo_dir())).backbone_folder(name))
    except UnknownName:
        if row is None:
            raise unknown(
                "backbone", name, BACKBONES, "adapters_xling/backbones.py, or the path of a local folder"
            ) from None
        raise ZooError(
            f"backbone {name!r} should lie in {paths.shipped_zoo_dir() / name}, but does not. "
            "Reinstall the package, or make it with scripts/pretrain_nano.py"
        ) from None


def _complete(folder: Path) -> Path:
    missing = [file for file in _FILES if not (folder / file).is_file()]
    if missing:
        raise ZooError(
            f"backbone folder {folder}: no {', '.join(missing)}; a backbone is {', '.join(_FILES)} (safetensors only)"
        )
    return folder


def _hub(row: Backbone, revision: str | None, *, download: bool) -> Path | None:
    """Snapshot folder of a hub backbone in the local cache, filled when `download`."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    assert row.repo is not None
    cached = [try_to_load_from_cache(row.repo, file, revision=revision) for file in _FILES]
    if all(isinstance(path, str) for path in cached):
        return Path(str(cached[-1])).parent
    if not download:
        return None
    try:
        for file in _FILES:
            path = hf_hub_download(row.repo, file, revision=revision, etag_timeout=5)
    except Exception as err:  # the client raises many unrelated types; each means "not to be had"
        raise ZooError(
            f"backbone {row.name!r} ({row.repo}@{revision or 'main'}) is not in the local cache and cannot be "
            f"downloaded ({type(err).__name__}). Check the network, or download it elsewhere and give its folder "
            "as the backbone; xlmr-nano needs no network"
        ) from err
    return Path(path).parent


def _identify(name: str, folder: Path | None) -> BackboneId:
    row = BACKBONES.get(name)
    repo = row.repo if row and row.repo else name
    if folder is None:
        return BackboneId(name=name, repo=repo, revision=backbone(name).revision, digest=None)
    # In the hub's cache the snapshot folder is named by the commit.
    revision = folder.name if row and row.repo and folder.parent.name == "snapshots" else None
    return BackboneId(name=name, repo=repo, revision=revision, digest=file_digest(folder / WEIGHTS))


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


def _class(dotted: str) -> Any:
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)
