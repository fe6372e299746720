"""The masked-LM head a backbone was pretrained with: where it is, what identifies it, and how a head of ours takes it.

Beside its encoder a backbone may bring the head in a file of its own (`lm_head.safetensors`) or, as hub checkpoints do,
inside `model.safetensors`. The first is no part of the backbone's digest and so has one of its own in a run; the second
is. What its tensors are called there is the family's (`Family.lm_head`). Importing this loads no deep-learning library.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from adapters_xling.backbones import Family
from adapters_xling.errors import ConfigError, ZooError
from adapters_xling.spec import BackboneId
from adapters_xling.zoo import Zoo, file_digest

from .backbone import family_in, folder_of
from .backbone_files import WEIGHTS

if TYPE_CHECKING:
    from torch import nn

FILE = "lm_head.safetensors"
_OLD_NAMES = {".weight": ".gamma", ".bias": ".beta"}
"""How the oldest BERT checkpoints call what a normalisation learns."""


def lm_head_digest(name: BackboneId, *, zoo: Zoo | None = None, backbone: str | Path | None = None) -> str | None:
    """What `RunSpec.lm_head` holds: sha256 of the backbone's own head file, or None where it has no such file.

    Args:
        name: identity of the backbone; one without digest (not at hand) gives None, and cannot be trained either.
        zoo: where to look for backbones.
        backbone: folder of its files.

    Raises:
        ZooError: when the backbone's files are not at hand although they were read for its digest.
    """
    if name.digest is None:
        return None
    file = folder_of(name, zoo=zoo, backbone=backbone) / FILE
    return file_digest(file) if file.is_file() else None


def start_from_backbone(head: nn.Module, folder: Path, *, expected: str | None, who: str) -> None:
    """Give a fresh masked-LM head the weights the backbone was pretrained with; warn and leave it where there are none.

    Args:
        head: with `dense`, `layer_norm` and `bias`.
        folder: of the backbone.
        expected: `RunSpec.lm_head`.
        who: the run, for messages.

    Raises:
        ConfigError: when the head file is another one than the run was planned with.
        ZooError: for a head that does not fit.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    own = folder / FILE
    found = file_digest(own) if own.is_file() else None
    if found != expected:
        raise ConfigError(
            f"{who}: {own} is {'sha256:' + found[:12] if found else 'not there'}, the run was planned with "
            f"{'sha256:' + expected[:12] if expected else 'no such file'}. Put it back, or plan the run again"
        )
    file = own if found else folder / WEIGHTS
    try:
        with safe_open(file, framework="pt") as weights:
            names = _stored_names(family_in(folder), frozenset(weights.keys()))
            tensors = {name: weights.get_tensor(stored) for name, stored in names.items()}
    except (SafetensorError, OSError) as err:
        raise ZooError(f"{file}: cannot be read as safetensors ({err}); fetch the backbone again") from err
    if not tensors:
        warnings.warn(f"{who}: the backbone in {folder} brings no masked-LM head; a random one is trained")
        return
    wanted = dict(head.named_parameters())
    wrong = sorted(set(wanted) ^ set(tensors)) or [n for n in wanted if wanted[n].shape != tensors[n].shape]
    if wrong:
        raise ZooError(
            f"{file}: its masked-LM head does not fit this backbone ({', '.join(wrong[:3])} missing, unexpected or of "
            f"another shape); wanted are {', '.join(stored for _, stored in family_in(folder).lm_head)}"
        )
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(tensors[name])


def _stored_names(family: Family, found: Collection[str]) -> dict[str, str]:
    """Name of each tensor of the head -> its name among those found; the tied output matrix is not read again."""
    names = {}
    for name, stored in family.lm_head:
        stem, dot, last = stored.rpartition(".")
        for candidate in (stored, stem + _OLD_NAMES.get(dot + last, dot + last)):
            if candidate in found:
                names[name] = candidate
                break
    return names
