"""Encoder and tokenizer of a backbone as live objects, and whether the two and their family fit one another."""

from __future__ import annotations

import importlib
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_xling.backbones import Family

from .backbone_files import TOKENIZER

if TYPE_CHECKING:
    from torch import nn

_PIPELINE = ("normalizer", "pre_tokenizer", "post_processor")
_BUFFERS = ("position_ids", "token_type_ids")
"""Counters that older checkpoints hold; the encoder makes them itself."""


def by_name(dotted: str) -> Any:
    """Import a class by its dotted name."""
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)


def read_tokenizer(family: Family, folder: Path) -> Any:
    """Load a fast tokenizer that does what the folder's `tokenizer.json` says and nothing else.

    That file is part of a backbone's identity; `tokenizer_config.json` is not and may be absent. Without it BERT's
    class lower-cases and RoBERTa's handles blanks its own way whatever `tokenizer.json` says, so what the file says
    is put back.

    Raises:
        OSError: when the file cannot be read.
        ValueError: when it is no tokenizer of this class.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = by_name(family.tokenizer_class).from_pretrained(folder, local_files_only=True)
        meant = Tokenizer.from_file(str(folder / TOKENIZER))
    except OSError:
        raise
    except Exception as err:  # the library raises nothing narrower
        raise ValueError(f"{TOKENIZER} is none of family {family.name!r} ({err})") from err
    known = meant.get_vocab(with_added_tokens=True)
    invented = [token for token in tokenizer.all_special_tokens if token not in known]
    if invented:
        raise ValueError(
            f"{TOKENIZER} is none of family {family.name!r}: it lacks {', '.join(invented)}, which "
            f"{type(tokenizer).__name__} needs"
        )
    backend = tokenizer.backend_tokenizer
    for part in _PIPELINE:
        if _state(getattr(backend, part)) != _state(getattr(meant, part)):
            setattr(backend, part, getattr(meant, part))
    return tokenizer


def misfit(encoder: nn.Module, tokenizer: Any, family: Family, *, unread: Collection[str]) -> str | None:
    """Say why an encoder cannot read what a tokenizer gives, or was not loaded whole; None when all fits.

    Args:
        encoder: as loaded.
        tokenizer: as loaded.
        family: whose they are.
        unread: tensors of the checkpoint that the encoder has no place for. Heads and poolers are no part of it; more
            layers or tables than the configuration names are a loss.
    """
    from adapters_xling.tasks.kinds.common import Template

    places = (f"{family.layers}.", f"{family.embeddings}.")
    left = [
        name
        for name in sorted(unread)
        if any(name.startswith(place) or f".{place}" in name for place in places)
        and name.rpartition(".")[2] not in _BUFFERS
    ]
    if left:
        return (
            f"{len(left)} weights of the encoder are not read ({', '.join(left[:3])}{', …' if len(left) > 3 else ''}); "
            "its config.json describes another encoder"
        )
    rows = len(encoder.get_submodule(family.word_embeddings).weight)
    if len(tokenizer) > rows:
        return (
            f"the tokenizer knows {len(tokenizer)} tokens, the encoder has {rows} token vectors; {TOKENIZER} is "
            "another backbone's"
        )
    pair = Template.of(tokenizer, pair=True)
    found = (len(pair.parts[1]), 1 + pair.marks_second)
    if found != (family.pair_separators, family.token_types):
        return (
            f"its tokenizer puts {found[0]} separators between two segments and marks tokens as of {found[1]} types, "
            f"family {family.name!r} has {family.pair_separators} and {family.token_types}"
        )
    types = int(encoder.config.type_vocab_size)
    if types < family.token_types:
        return f"type_vocab_size is {types}; family {family.name!r} needs {family.token_types} for pairs of segments"
    padding = encoder.config.pad_token_id
    if family.position_offset and padding != tokenizer.pad_token_id:
        return (
            f"pad_token_id is {padding}, the tokenizer's is {tokenizer.pad_token_id}; family {family.name!r} counts "
            "positions from it"
        )
    return None


def _state(part: Any) -> str | None:
    return None if part is None else part.__getstate__().decode()
