"""The nano tokenizer: a SentencePiece unigram model in XLM-R's layout that knows every mini word as one piece.

A unigram model trained on text alone splits most mini words, because whole words do not pay for themselves in its
likelihood. So pieces are trained on real text of 40 languages, then the mini words are added with scores just high
enough that each wins over its best split; other text keeps its segmentation almost everywhere.
"""

from __future__ import annotations

import collections
import math
import random
import unicodedata
from pathlib import Path

from adapters_xling.tasks import mini

BOS, PAD, EOS, UNK = 0, 1, 2, 3
MARK = "▁"
PIECES = 7500
COVERAGE = 0.993


def load(folder: Path):
    """The fast tokenizer of a folder."""
    from transformers import XLMRobertaTokenizerFast

    return XLMRobertaTokenizerFast.from_pretrained(folder)


def _sample(real_dir: Path | None, rng: random.Random) -> tuple[list[str], set[str]]:
    """Training lines, the same number per language, and the characters that must not become unknown."""
    lines: list[str] = []
    characters: set[str] = set()
    if real_dir is None:
        for language in mini.LANGUAGES:
            source = mini.text(language)
            lines += [next(source) for _ in range(2000)]
        return lines, set("".join(lines)) - {" "}
    for path in sorted((real_dir / "mono").glob("*.txt")):
        text = path.read_text(encoding="utf-8").split("\n")
        lines += [line[:300] for line in rng.sample(text, min(len(text), 4000)) if line.strip()]
        twin = real_dir / "parallel" / "ntrex" / path.name
        if twin.exists():
            lines += [line[:300] for line in twin.read_text(encoding="utf-8").split("\n")[:1500] if line.strip()]
        counts = collections.Counter(unicodedata.normalize("NFKC", "".join(rng.sample(text, min(len(text), 20_000)))))
        for blank in " \n\t":
            counts.pop(blank, None)
        total, covered = sum(counts.values()), 0
        for character, number in counts.most_common():
            if covered > COVERAGE * total:
                break
            covered += number
            characters.add(character)
    rng.shuffle(lines)
    return lines, characters


def best_split(word: str, scores: dict[str, float]) -> float:
    """Score of the best segmentation of ``word`` (Viterbi); minus infinity if a character is unknown."""
    best = [0.0] + [-math.inf] * len(word)
    for end in range(1, len(word) + 1):
        for start in range(max(0, end - 20), end):
            score = scores.get(word[start:end])
            if score is not None and best[start] + score > best[end]:
                best[end] = best[start] + score
    return best[-1]


def build(folder: Path, real_dir: Path | None, seed: int) -> None:
    """Trains the pieces, adds the mini words, writes tokenizer.json and sentencepiece.bpe.model."""
    import sentencepiece as spm
    from sentencepiece import sentencepiece_model_pb2 as pb
    from transformers import XLMRobertaTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    base = folder.parent / "pieces"
    if not base.with_suffix(".model").exists():
        lines, characters = _sample(real_dir, random.Random(seed))
        text = folder.parent / "pieces.txt"
        text.write_text("\n".join(lines), encoding="utf-8")
        spm.SentencePieceTrainer.train(
            input=str(text),
            model_prefix=str(base),
            vocab_size=len(characters) + (PIECES if real_dir else 600),
            model_type="unigram",
            character_coverage=0.997,
            required_chars="".join(sorted(characters)),
            normalization_rule_name="nmt_nfkc",
            num_threads=1,
            max_sentence_length=3000,
            hard_vocab_limit=False,
            minloglevel=1,
        )
        text.unlink()
    proto = pb.ModelProto()
    proto.ParseFromString(base.with_suffix(".model").read_bytes())
    scores = {p.piece: p.score for p in proto.pieces if p.type == 1}
    wanted: set[str] = set()
    for language in mini.LANGUAGES:
        for word in mini.vocabulary(language):
            word = unicodedata.normalize("NFKC", word)
            wanted.add(MARK + word)
            if len(word) == 1 and not word.isalpha():
                wanted.add(word)
            if language == "es" and word[0].isupper():
                wanted.add(word)
    wanted |= {character for piece in wanted for character in piece}
    floor = min(scores.values())
    added = 0
    for piece in sorted(wanted, key=lambda p: (len(p), p)):
        split = best_split(piece, scores)
        score = max(split + 0.1, floor) if math.isfinite(split) else floor
        if piece in scores and scores[piece] >= split - 1e-6 and len(piece) > 0:
            continue
        added += piece not in scores
        scores[piece] = score
    # the fast tokenizer reads pieces in file order after <unk>, <s>, </s>
    head = [p for p in proto.pieces if p.type != 1]
    order = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    del proto.pieces[:]
    proto.pieces.extend(head)
    for piece, score in order:
        proto.pieces.add(piece=piece, score=score, type=1)
    model = folder / "sentencepiece.bpe.model"
    model.write_bytes(proto.SerializeToString())
    tokenizer = XLMRobertaTokenizerFast(vocab_file=str(model), model_max_length=256)
    tokenizer.save_pretrained(folder)
    print(f"tokenizer: {len(tokenizer)} pieces, {added} added for the mini world", flush=True)
