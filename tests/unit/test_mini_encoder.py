"""Parts of `scripts/build_mini_encoder.py`: a transplant computes what its donor does, batches say what they hold."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from mini_encoder import objectives, rows, text, transplant

SIZE, HIDDEN = 40, 16
PAD = 1


@pytest.fixture(scope="module")
def donor() -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=SIZE, hidden_size=HIDDEN, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    config._attn_implementation = "eager"
    return BertModel(config, add_pooling_layer=False).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def student(donor: BertModel) -> torch.nn.Module:
    model = transplant.transplant(donor, donor.embeddings.word_embeddings.weight.numpy().copy())
    return model.eval().requires_grad_(False)


def ids_and_mask() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    ids = torch.randint(5, SIZE, (3, 9))
    mask = torch.ones_like(ids)
    ids[1, 6:], mask[1, 6:] = PAD, 0
    return ids, mask


def test_a_transplant_with_the_donors_vectors_is_the_donor(donor: BertModel, student: torch.nn.Module) -> None:
    """Positions move by two and the first segment's vector goes into them; nothing else may change."""
    ids, mask = ids_and_mask()
    theirs = donor(ids, attention_mask=mask).last_hidden_state
    ours = student(ids, attention_mask=mask).last_hidden_state
    assert torch.allclose(ours[mask.bool()], theirs[mask.bool()], atol=1e-5)


def test_layers_asked_for_are_the_models_own(student: torch.nn.Module) -> None:
    ids, mask = ids_and_mask()
    wanted = student(ids, attention_mask=mask, output_hidden_states=True).hidden_states
    vectors, place = ids.unique(return_inverse=True)
    hidden = objectives.embed(student, student.embeddings.word_embeddings.weight[vectors], place)
    found = objectives.layers(student, hidden, mask, {1, 3})
    for layer, states in found.items():
        assert torch.allclose(states[mask.bool()], wanted[layer][mask.bool()], atol=1e-5)


def test_a_unit_is_the_mean_of_its_tokens() -> None:
    hidden = torch.randn(2, 4, 3)
    units = torch.tensor([[rows.NO_UNIT, 0, 0, 1], [2, 2, rows.NO_UNIT, rows.NO_UNIT]])
    found = objectives.unit_means(hidden, units, 3)
    assert torch.allclose(found, torch.stack([hidden[0, 1:3].mean(0), hidden[0, 3], hidden[1, :2].mean(0)]))


def test_the_row_optimiser_is_adam_where_every_row_is_read() -> None:
    table = torch.randn(6, 4)
    twin = torch.nn.Parameter(table.clone())
    ours = objectives.RowAdam(table)
    theirs = torch.optim.Adam([twin], lr=0.01, betas=(0.9, 0.98))
    for step in range(5):
        gradient = torch.randn(6, 4, generator=torch.Generator().manual_seed(step))
        ours.step(torch.arange(6), gradient, 0.01)
        twin.grad = gradient
        theirs.step()
    assert torch.allclose(table, twin.detach(), atol=1e-6)


def test_the_row_optimiser_leaves_rows_that_were_not_read() -> None:
    table = torch.randn(6, 4)
    before = table.clone()
    objectives.RowAdam(table).step(torch.tensor([1, 4]), torch.randn(2, 4), 0.1)
    assert torch.equal(table[[0, 2, 3, 5]], before[[0, 2, 3, 5]])
    assert not torch.equal(table[1], before[1])


# --- batches ------------------------------------------------------------------------------------------------------


@pytest.fixture
def drawer() -> rows.Drawer:
    """Four sentences of one source in English (ids 10 + i) and German (ids 20 + i), twice as long as the donor's."""
    lines, sentence, language = [], [], []
    for i in range(4):
        for number, first in ((0, 20), (1, 10)):
            lines.append([first + i] * (4 + number))
            sentence.append(i)
            language.append(number)
    flat = rows.Flat([[10 + i, 30 + i] for i in range(4)])
    words = (rows.Flat([[5, 6, 7]]), rows.Flat([[0, 0, 1]]), rows.Flat([[8, 9]]), rows.Flat([[0, 1]]))
    held = rows.Text(
        ids=rows.Flat(lines), sentence=np.asarray(sentence), language=np.asarray(language), languages=["de", "en"],
        first=np.arange(0, 9, 2), sources=np.asarray(["ntrex"] * 4), donor=flat, words=words,
        mono={"de": rows.Flat([[11] * 6])},
    )  # fmt: skip
    return rows.Drawer(held, seed=0, thread=0, batch_tokens=60, exponent=0.5, donor_ids=(1, 2, 0))


def test_every_unit_of_a_batch_has_tokens_on_both_sides_and_the_same_sentence(drawer: rows.Drawer) -> None:
    seen = set()
    for _ in range(60):
        batch = drawer.distillation()
        assert sorted(set(batch.student.units.ravel()) - {rows.NO_UNIT}) == list(range(len(batch.target)))
        assert set(batch.target) == set(batch.donor.units.ravel()) - {rows.NO_UNIT}
        assert batch.student.ids.size <= 60 or len(batch.student.ids) == 1
        for unit, (target, whole) in enumerate(zip(batch.target, batch.whole, strict=True)):
            ours = set(batch.student.ids[batch.student.units == unit]) - {0, 2}
            theirs = set(batch.donor.ids[batch.donor.units == target]) - {1, 2}
            seen.add(bool(whole))
            if whole:
                (number,) = {token % 10 for token in ours}
                assert theirs == {10 + number, 30 + number}
            else:
                assert (ours, theirs) in (({5, 6}, {8}), ({7}, {9}))
    assert seen == {True, False}


@pytest.mark.parametrize("least", [1, 12, 30, 10**6])
def test_rows_in_parts_of_like_length_are_the_rows_and_each_part_is_as_narrow_as_its_longest(least: int) -> None:
    rng = np.random.default_rng(0)
    side = rows.pad([([i + 9] * n, [0] * n, [i] * n) for i, n in enumerate(rng.integers(1, 20, size=17))], 0)
    parts = side.by_length(least)
    found = [tuple(ids[mask == 1]) for part in parts for ids, mask in zip(part.ids, part.mask, strict=True)]
    assert sorted(found) == sorted(tuple(ids[mask == 1]) for ids, mask in zip(side.ids, side.mask, strict=True))
    assert all(part.ids.shape[1] == part.mask.sum(1).max() for part in parts)
    assert all(part.mask.sum() >= least for part in parts) or len(parts) == 1
    assert len(parts) == {1: 9, 12: 6, 30: 5, 10**6: 1}[least]
    assert all(np.array_equal(part.units, np.where(part.mask, part.ids - 9, rows.NO_UNIT)) for part in parts)


def test_the_donor_says_of_rows_in_parts_what_it_says_of_all_at_once(
    donor: BertModel, student: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = np.random.default_rng(0).integers(2, 20, size=12)
    side = rows.pad([([7 + i] * n, [0] * n, [i] * n) for i, n in enumerate(lengths)], 0)
    batch = rows.Distillation(side, side, np.arange(12)[::-1].copy(), np.ones(12, bool), 12)
    aim = objectives.Distil(student, donor, middle=2, device="cpu")
    wanted = aim.targets(batch)
    monkeypatch.setattr(objectives, "PIECE", 1)
    assert len(batch.donor.by_length(1)) > 4
    found = aim.targets(batch)
    assert set(found) == {2, 3}
    for layer, vectors in found.items():
        assert torch.allclose(vectors, wanted[layer], atol=1e-6)


def test_a_drawer_goes_on_where_another_one_stood(drawer: rows.Drawer) -> None:
    other = rows.Drawer(drawer.text, seed=5, thread=1, batch_tokens=60, exponent=0.5, donor_ids=(1, 2, 0))
    for _ in range(7):
        drawer.distillation()
    other.restore(drawer.state())
    for _ in range(len(drawer.queue) + 20):  # those in the queue, and beyond
        wanted, found = drawer.distillation(), other.distillation()
        assert np.array_equal(found.student.ids, wanted.student.ids)
        assert np.array_equal(found.target, wanted.target)


def test_masks_hide_about_as_much_as_they_say_and_labels_are_what_was_hidden(drawer: rows.Drawer) -> None:
    hidden = shown = 0
    for _ in range(40):
        side, labels = drawer.masked(mask_id=39, size=40)
        chosen = labels != rows.NO_UNIT
        assert not chosen[:, 0].any() and (labels[chosen] >= 5).all()
        assert set(side.ids[chosen]) - {39} <= set(range(4, 40))
        hidden, shown = hidden + int(chosen.sum()), shown + int(side.mask.sum())
    assert 0.1 < hidden / shown < 0.4


def test_lines_that_are_evaluation_rows_are_dropped_and_the_last_are_held_out(tmp_path: Path) -> None:
    for source, number in (("ntrex", 1700), ("tico19", 1802)):
        folder = tmp_path / "parallel" / source
        folder.mkdir(parents=True)
        for language in ("en", "de"):
            lines = [f"{source} {language} number {i}" for i in range(number)]
            (folder / f"{language}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "bible").mkdir()
    (tmp_path / "bible" / "en.txt").write_text("In the beginning\n", encoding="utf-8")
    (tmp_path / "bible" / "sw.txt").write_text("Hapo mwanzo\n", encoding="utf-8")
    (tmp_path / "tatoeba").mkdir()
    (tmp_path / "tatoeba" / "de.tsv").write_text("Hello .\tHallo .\nGone\tWeg\n", encoding="utf-8")
    found = text.read_parallel(tmp_path, {text.digest("NTREX de, number 7!"), text.digest("weg")})
    assert found.dropped == 2
    assert {source: len(lines) for source, lines in found.held.items()} == {"ntrex": 3, "tico19": 2}
    assert len(found.sentences) == 1697 - 1 + 1800 + 1 + 1
    assert not any(s["en"].removeprefix("ntrex en ") == "number 7" for s in found.sentences)
    assert found.languages == ["de", "en", "sw"]


class Words:
    """A tokenizer of whole words; `told` is the order in which it tells them."""

    def __init__(self, words: Sequence[str], told: Sequence[str]) -> None:
        self.ids = {word: i for i, word in enumerate(words)}
        self.told, self.all_special_ids = told, list(range(5))

    def __len__(self) -> int:
        return len(self.ids)

    def __call__(self, lines: Sequence[str], *, add_special_tokens: bool) -> dict[str, list[list[int]]]:
        return {"input_ids": [[self.ids[word] for word in line.split()] for line in lines]}

    def get_vocab(self) -> dict[str, int]:
        return {word: self.ids[word] for word in self.told}

    def convert_tokens_to_ids(self, word: str) -> int:
        return self.ids[word]


def test_start_vectors_do_not_hang_on_the_order_in_which_a_tokenizer_tells_its_pieces() -> None:
    """It is another one in every process, and the last bit of a matrix product hangs on a row's place."""
    rng = random.Random(0)
    words = sorted({"".join(rng.choices("abcdefgh", k=5)) for _ in range(400)})
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    ours, theirs = [*special, *words], ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]", *reversed(words)]
    lines = [" ".join(rng.choices(words, k=8)) for _ in range(500)]
    parallel = text.Parallel(sentences=[{"en": line, "de": line} for line in lines])
    vectors = np.random.default_rng(0).standard_normal((len(theirs), 48)).astype(np.float32)
    found = [
        transplant.start_vectors(parallel, Words(ours, told), Words(theirs, theirs), vectors, seed=0)[0].tobytes()
        for told in (ours, ours[::-1], rng.sample(ours, len(ours)))
    ]
    assert found[0] == found[1] == found[2]


def test_pieces_are_the_same_in_every_process(tmp_path: Path) -> None:
    """Sentencepiece draws its lines anew in every process, so the script draws them; its model names no folder."""
    pytest.importorskip("sentencepiece")
    code = (
        "import random, sys; from pathlib import Path; from mini_encoder import vocab\n"
        "rng = random.Random(0); words = [''.join(rng.choices('abcdefgh', k=5)) for _ in range(300)]\n"
        "lines = [' '.join(rng.choices(words, k=8)) for _ in range(2000)]\n"
        "vocab.build(Path(sys.argv[1]), lines, pieces=200, threads=2, seed=int(sys.argv[2]), most_lines=300)\n"
    )
    made = {}
    for name, seed in (("first", "0"), ("again", "0"), ("other", "1")):
        given = [sys.executable, "-c", code, str(tmp_path / name), seed]
        subprocess.run(given, check=True, cwd=Path(__file__).resolve().parents[2] / "scripts", capture_output=True)
        made[name] = [(tmp_path / name / f).read_bytes() for f in ("tokenizer.json", "sentencepiece.bpe.model")]
    assert made["first"] == made["again"]
    assert all(a != b for a, b in zip(made["first"], made["other"], strict=True))
