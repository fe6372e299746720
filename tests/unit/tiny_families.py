"""Tiny backbones of the other families: deterministic tokenizers of their types, and small random encoders."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from tiny import TEXT, tiny_encoder, tiny_tokenizer

FAMILIES = ("xlm-roberta", "roberta", "bert")
BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


@functools.cache
def tiny_wordpiece(text: str = TEXT, *, lowercase: bool = True) -> Any:
    """A fast BERT tokenizer: words of the text are one piece, others fall apart into characters or are unknown."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertTokenizerFast

    words = sorted(set((text.lower() if lowercase else text).split()))
    chars = sorted({char for word in words for char in word})
    pieces = dict.fromkeys([*BERT_SPECIALS, *words, *chars, *(f"##{char}" for char in chars)])
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return BertTokenizerFast(tokenizer_object=backend, model_max_length=512, do_lower_case=lowercase)


@functools.cache
def tiny_bytes(text: str = TEXT) -> Any:
    """A fast RoBERTa tokenizer: byte-level BPE trained on the text, so that nothing is unknown."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import RobertaTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(ROBERTA_SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([text], trainer)
    backend.post_processor = processors.RobertaProcessing(
        sep=("</s>", 2), cls=("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    return RobertaTokenizerFast(tokenizer_object=backend, model_max_length=512)


def tokenizer_of(family: str) -> Any:
    return {"xlm-roberta": tiny_tokenizer, "roberta": tiny_bytes, "bert": tiny_wordpiece}[family]()


def config_of(family: str, *, layers: int = 2, hidden: int = 32, positions: int = 130) -> Any:
    from transformers import BertConfig, RobertaConfig, XLMRobertaConfig

    of = {"xlm-roberta": XLMRobertaConfig, "roberta": RobertaConfig, "bert": BertConfig}[family]
    tokenizer = tokenizer_of(family)
    return of(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=positions,
        type_vocab_size=2 if family == "bert" else 1,
        pad_token_id=tokenizer.pad_token_id,
    )


def encoder_of(family: str, *, layers: int = 2, hidden: int = 32, seed: int = 0) -> Any:
    """A bare random encoder in eval mode, as `tiny_encoder` is for XLM-R."""
    import torch
    from transformers import BertModel, RobertaModel

    if family == "xlm-roberta":
        return tiny_encoder(len(tiny_tokenizer()), layers=layers, hidden=hidden, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = {"roberta": RobertaModel, "bert": BertModel}[family]
        return model(config_of(family, layers=layers, hidden=hidden), add_pooling_layer=False).eval()


def write_family(family: str, folder: Path, *, seed: int = 0) -> Path:
    """A backbone folder as the hub has it, tokenizer files of all sorts included."""
    encoder_of(family, seed=seed).save_pretrained(folder)
    tokenizer_of(family).save_pretrained(folder)
    return folder
