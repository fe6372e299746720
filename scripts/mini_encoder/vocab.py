"""A SentencePiece unigram vocabulary of many languages in XLM-R's layout."""

from __future__ import annotations

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
    """
    import sentencepiece as spm
    from transformers import XLMRobertaTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    lines = list(lines)
    if len(lines) > most_lines:
        lines = random.Random(seed).sample(lines, most_lines)
    text = folder / "pieces.txt"
    with text.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(line.replace("\n", " ")[:300] + "\n")
    spm.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "sentencepiece.bpe"),
        vocab_size=pieces,
        model_type="unigram",
        character_coverage=COVERAGE,
        normalization_rule_name="nmt_nfkc",
        num_threads=threads,
        max_sentence_length=3000,
        seed_sentencepiece_size=400_000,
        minloglevel=1,
    )
    text.unlink()
    (folder / "sentencepiece.bpe.vocab").unlink()
    XLMRobertaTokenizerFast(vocab_file=str(folder / "sentencepiece.bpe.model"), model_max_length=512).save_pretrained(
        folder
    )


def load(folder: Path) -> Any:
    """The fast tokenizer of a folder."""
    from transformers import XLMRobertaTokenizerFast

    return XLMRobertaTokenizerFast.from_pretrained(folder)
