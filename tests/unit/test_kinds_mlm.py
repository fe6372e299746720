"""Masked language modelling: what is masked, how often, and what of it a model gets to see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_xling import inference, tasks
from adapters_xling.errors import ConfigError
from adapters_xling.spec import FileSource, TaskSpec
from adapters_xling.tasks import kinds
from adapters_xling.tasks.examples import Features, Prediction, TextExample
from adapters_xling.tasks.kinds.base import IGNORE, TokenOutput
from tests.unit.tiny import TEXT, tiny_tokenizer

KIND = kinds.get("mlm")
TOKENIZER = tiny_tokenizer()
WORDS = TEXT.split()
ROWS = [TextExample(id=str(i), text=" ".join(WORDS[i : i + 20])) for i in range(40)]


def spec(**options: Any) -> TaskSpec:
    return TaskSpec(
        name="texts",
        kind="mlm",
        role="private",
        title="texts",
        languages=("en",),
        sources=(FileSource(reader="plain", splits={"train": "{language}.txt", "dev": "{language}.txt"}),),
        metrics=("masked_accuracy",),
        options=options,
    )


def encoded(max_length: int = 64, **options: Any) -> list[Features]:
    return list(KIND.encode(ROWS, TOKENIZER, spec(**options), max_length=max_length))


def original(feature: Features) -> list[int]:
    return [g if g != IGNORE else t for t, g in zip(feature.input_ids[0], feature.label, strict=True)]


def test_fifteen_percent_are_chosen_and_changed_eighty_ten_ten() -> None:
    places = masked = replaced = kept = 0
    for seed in range(60):
        for feature in KIND.redraw(encoded(), TOKENIZER, spec(), seed=seed):
            gold = [(t, g) for t, g in zip(feature.input_ids[0], feature.label, strict=True) if g != IGNORE]
            places += sum(token not in TOKENIZER.all_special_ids for token in original(feature))
            masked += sum(t == TOKENIZER.mask_token_id for t, _ in gold)
            replaced += sum(t not in (g, TOKENIZER.mask_token_id) for t, g in gold)
            kept += sum(t == g for t, g in gold)
            assert not any(g in TOKENIZER.all_special_ids for _, g in gold)
    chosen = masked + replaced + kept
    assert chosen / places == pytest.approx(0.15, abs=0.01)
    assert (masked / chosen, replaced / chosen) == pytest.approx((0.8, 0.1), abs=0.02)


def test_dev_rows_are_masked_the_same_each_time_and_training_rows_anew_from_a_seed() -> None:
    assert encoded() == encoded()
    one, same, other = (KIND.redraw(encoded(), TOKENIZER, spec(), seed=seed) for seed in (1, 1, 2))
    assert one == same != other
    assert [original(a) for a in one] == [original(b) for b in other] == [original(c) for c in encoded()]


def test_a_long_text_goes_on_in_the_next_row_and_none_of_it_is_lost() -> None:
    short, long = encoded(max_length=12), encoded(max_length=128)
    for i in range(len(ROWS)):
        tokens = [t for f in short if f.example == i for t in original(f)[1:-1]]
        assert tokens == [t for f in long if f.example == i for t in original(f)[1:-1]]
    assert len(short) > len(long) == len(ROWS)


def test_logits_are_made_for_masked_tokens_alone_and_the_token_matrix_gets_their_gradient() -> None:
    torch.manual_seed(0)
    features = encoded()[:5]
    batch = KIND.collate(features, pad_id=1)
    head = KIND.make_head(spec(), hidden_size=8, dropout=0.5)
    assert head is not None
    KIND.fit_head(head, num_tokens=len(TOKENIZER), norm_epsilon=1e-3)
    assert head.layer_norm.eps == 1e-3
    vectors = torch.randn(len(TOKENIZER), 8, requires_grad=True)
    logits = KIND.apply_head(head, torch.randn(*batch["input_ids"].shape, 8), batch, TokenOutput(vectors, torch.neg))
    assert logits.shape == (int((batch["labels"] != IGNORE).sum()), len(TOKENIZER))
    KIND.loss(logits, batch).backward()
    assert vectors.grad is not None
    assert float(vectors.grad.abs().sum()) > 0
    assert [len(found) for found in KIND.outputs(logits, batch)] == [
        sum(label != IGNORE for label in feature.label) for feature in features
    ]
    whole = KIND.apply_head(head, torch.randn(2, 3, 8), {}, TokenOutput(vectors, torch.neg))
    assert whole.shape == (2, 3, len(TOKENIZER))


def test_a_batch_without_anything_masked_has_no_loss_and_no_nan() -> None:
    batch = {"labels": torch.full((2, 4), IGNORE)}
    assert KIND.loss(torch.zeros(0, 9), batch).item() == 0.0


def test_the_score_is_the_share_of_masked_tokens_over_all_texts() -> None:
    found = [Prediction("0", ((5, 5), (6, 7))), Prediction("1", ((9, 9),)), Prediction("2", ((1, 2),))]
    assert inference.score(spec(), ROWS[:3], found, language="en") == {"masked_accuracy": 50.0}
    assert inference.score(spec(), ROWS, KIND.majority([], ROWS, spec()), language="en") == {"masked_accuracy": 0.0}


@pytest.mark.parametrize(
    ("options", "words"),
    [({"mask_rate": 0.0}, "mask_rate must be above 0"), ({"masked": 0.8, "replaced": 0.3}, "make at most 1")],
)
def test_shares_that_are_none_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        KIND.check_spec(spec(**options))


def test_plain_text_files_are_read_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_text("the cat sat\n\n  \nwhere is\u2028the house ?\r\n", encoding="utf-8")
    rows = tasks.load(spec(), "train", "en", data_dir=tmp_path)
    assert [(row.id, row.text) for row in rows.examples] == [("1", "the cat sat"), ("4", "where is\u2028the house ?")]
    assert rows.dropped == {}
