"""A SentencePiece unigram vocabulary of many languages in XLM-R's layout."""

from __future__ import annotations

import io
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

BOS, PAD, EOS, UNK = 0, 1, 2, 3
MARK = "▁"
COVERAGE = 0.9995
MOST_LINES = 400_000


def build(
    folder: Path, lines: Iterable[str], *, pieces: int, threads: int, seed: int, most_lines: int = MOST_LINES
) -> None:
    """Learn ``pieces`` pieces and write sentencepiece.bpe.model and tokenizer.json.

    Of more than ``most_lines`` lines some are drawn here: sentencepiece's own draw is another one in every process.
    The model holds no path of this machine: the same pieces are the same bytes wherever they were learnt.
    """
    import sentencepiece as spm
    from transformers import XLMRobertaTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    lines = list(lines)
    if len(lines) > most_lines:
        lines = random.Random(seed).sample(lines, most_lines)
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=(line.replace("\n", " ")[:300] for line in lines),
        model_writer=model,
        vocab_size=pieces,
        model_type="unigram",
        character_coverage=COVERAGE,
        normalization_rule_name="nmt_nfkc",
        num_threads=threads,
        max_sentence_length=3000,
        seed_sentencepiece_size=400_000,
        minloglevel=1,
    )
    file = folder / "sentencepiece.bpe.model"
    file.write_bytes(model.getvalue())
    XLMRobertaTokenizerFast(vocab_file=str(file), model_max_length=512).save_pretrained(folder)


def load(folder: Path) -> Any:
    """The fast tokenizer of a folder."""
    from transformers import XLMRobertaTokenizerFast

    return XLMRobertaTokenizerFast.from_pretrained(folder)
