"""A tiny XLM-R: a deterministic Unigram tokenizer with XLM-R's special ids, and a small random encoder.

Reusable by every test: `from tests.unit.tiny import tiny_tokenizer, tiny_encoder`.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from typing import Any

TEXT = (
    "the cat sat on the mat and the dog ran to the old house in the green park . "
    "Anna gave a red book to Ben in Paris on Monday , but Carl did not see it . "
    "who gave the book ? where is the house ? what did Ben see ? yes no maybe because never "
    "der Hund lief zum Haus . kofi alikwenda nyumbani . кот сидел на коврике . 北京 大学 在 公园 附近 。"
)
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")


@functools.cache
def tiny_tokenizer(text: str = TEXT) -> Any:
    """A fast XLM-R tokenizer whose pieces are the words and characters of a text.

    Same pipeline as the real one: a Metaspace in front of every word, `<s> A </s></s> B </s>`, ids 0 to 3 for
    `<s> <pad> </s> <unk>`, `<mask>` last. Words of the text are one piece, others fall apart into characters,
    characters that the text lacks are unknown.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import XLMRobertaTokenizerFast

    words = Counter("▁" + word for word in text.split())
    chars = sorted({char for word in words for char in word})
    scores = [(word, -4 - math.log(sum(words.values()) / count)) for word, count in sorted(words.items())]
    known = {word for word, _ in scores}
    pieces = [(piece, 0.0) for piece in SPECIALS] + scores + [(char, -20.0) for char in chars if char not in known]
    backend = Tokenizer(models.Unigram([*pieces, ("<mask>", 0.0)], unk_id=3, byte_fallback=False))
    backend.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Replace("\u200d", ""),
            normalizers.Replace("\ufeff", ""),
            normalizers.Strip(left=False, right=True),
            normalizers.Replace(Regex(" {2,}"), "▁"),
        ]
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return XLMRobertaTokenizerFast(tokenizer_object=backend, model_max_length=512)


def tiny_encoder(
    vocab_size: int | None = None,
    *,
    layers: int = 2,
    hidden: int = 32,
    heads: int = 2,
    positions: int = 130,
    seed: int = 0,
) -> Any:
    """A bare random XLM-R encoder in eval mode; the same seed gives the same weights, the global generator is kept."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    config = XLMRobertaConfig(
        vocab_size=vocab_size or len(tiny_tokenizer()),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=2 * hidden,
        max_position_embeddings=positions,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return XLMRobertaModel(config, add_pooling_layer=False).eval()
