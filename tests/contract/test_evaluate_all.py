"""Entries evaluated together get the scores they get alone, share what can be shared, and do not share failures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loops import SMALL, trained

from adapters_xling import evaluation, inference, matrix, tasks
from adapters_xling.errors import ConfigError, DataError, ZooError
from adapters_xling.evaluation import evaluate, evaluate_all
from adapters_xling.grid import make_run
from adapters_xling.methods import resolve
from adapters_xling.model import Model, backbone_id, building, open_entry
from adapters_xling.model.shared import num_unchanged
from adapters_xling.paths import predictions_file, score_file
from adapters_xling.prefix_cache import IN_MEMORY, PrefixCache, open_store
from adapters_xling.spec import Slot, Stack, Use
from adapters_xling.zoo import Zoo

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "bottleneck-a": ("bottleneck", {"reduction_factor": 4, "leave_out": (0,)}),
    "bottleneck-b": ("bottleneck", {"reduction_factor": 8, "leave_out": (0, 1)}),
    "lora-a": ("lora", {"r": 2, "dropout": 0.0, "layers": (1, 2)}),
    "lora-b": ("lora", {"r": 4, "dropout": 0.0, "layers": (2,)}),
    "head": ("head", {}),
    "full": ("full", {}),
}
LANGUAGES = ("de", "sw", "ru")
LIMIT = 12


class World:
    """A zoo of small entries on mini-nli, by short names."""

    def __init__(self, root: Path, backbone: Path) -> None:
        self.zoo = Zoo(root / "zoo", fallbacks=())
        self.keys: dict[str, str] = {}
        for short, (name, settings) in METHODS.items():
            run = make_run(
                tasks.get("mini-nli"),
                resolve(name, settings),
                backbone=backbone_id(str(backbone)),
                recipe="nano",
                overrides={**SMALL, "learning_rate": 0.01, "max_steps": 2},
            )
            self.keys[short] = trained(run, root / "zoo").key

    def options(self, folder: Path, **changes: Any) -> dict[str, Any]:
        fields = {"zoo": self.zoo, "runs_dir": folder, "languages": LANGUAGES, "limit": LIMIT, "device": "cpu"}
        return {**fields, **changes}

    def alone(self, folder: Path, short: str, task: str = "mini-nli", **changes: Any) -> list[evaluation.Score]:
        return evaluate(self.keys[short], tasks.get(task), **self.options(folder, **changes))

    def together(self, folder: Path, *shorts: str, task: str = "mini-nli", **changes: Any) -> dict[str, Any]:
        names = [self.keys[short] for short in shorts or self.keys]
        found = evaluate_all(names, tasks.get(task), **self.options(folder, **changes))
        return {short: found[name] for short, name in self.keys.items() if name in found}


@pytest.fixture(scope="module")
def world(backbone_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("matrix")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLING_CACHE", str(root / "cache"))
        return World(root, backbone_folder)


def predictions(folder: Path, name: str, task: str, language: str, precision: str = "fp32") -> list[dict[str, Any]]:
    scores = score_file(folder / "scores" / name / task, "test", language, limit=LIMIT, precision=precision)
    file = predictions_file(scores)
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the backbones that are loaded from now on."""
    found: list[str] = []
    plain = building.load_backbone
    monkeypatch.setattr(building, "load_backbone", lambda name, **how: found.append(str(name)) or plain(name, **how))
    return found


def test_entries_together_answer_as_they_do_alone(world: World, tmp_path: Path, monkeypatch: Any) -> None:
    alone = {short: world.alone(tmp_path / "alone", short) for short in world.keys}
    loaded = loads(monkeypatch)
    monkeypatch.setattr(inference, "CPU_TOKENS_PER_BATCH", inference.TOKENS_PER_BATCH)
    batches: list[int] = []
    plain = matrix.ready
    monkeypatch.setattr(
        matrix, "ready", lambda models, *rest, **how: batches.append(len(models)) or plain(models, *rest, **how)
    )
    together = world.together(tmp_path / "together")
    assert together == alone
    assert len(loaded) == 4  # bottleneck, LoRA, head and full: what cannot share an encoder has one of its own
    assert Counter(batches) == {2: 2, 1: 2}  # all languages in one batch, read by both entries of a method
    for short, name in world.keys.items():
        for language in LANGUAGES:
            ours, theirs = (
                predictions(tmp_path / where, name, "mini-nli", language) for where in ("together", "alone")
            )
            assert [row["id"] for row in ours] == [row["id"] for row in theirs], short
            for one, other in zip(ours, theirs, strict=True):
                assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


def test_layers_below_all_entries_run_once(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int | None]] = []
    plain = Model.encode

    def noting(self: Model, batch: Any, start_layer: int = 0, hidden: Any = None, **how: Any) -> Any:
        calls.append((start_layer, how.get("layer")))
        return plain(self, batch, start_layer, hidden, **how)

    opened = evaluation.Opened(zoo=world.zoo, device="cpu", backbone=None)
    for short in ("lora-a", "lora-b"):
        opened.model(world.keys[short], world.zoo.get(world.keys[short]).card)
    monkeypatch.setattr(Model, "encode", noting)
    monkeypatch.setattr(inference, "CPU_TOKENS_PER_BATCH", inference.TOKENS_PER_BATCH)
    world.together(tmp_path, "lora-a", "lora-b", opened=opened)
    assert calls == [(0, 1), (1, None), (1, None)]


@pytest.mark.parametrize(
    ("short", "unchanged"),
    [("bottleneck-a", 1), ("bottleneck-b", 2), ("lora-a", 1), ("lora-b", 2), ("head", 3), ("full", -1)],
)
def test_how_far_an_entry_is_the_bare_backbone(short: str, unchanged: int, world: World) -> None:
    assert num_unchanged(world.keys[short], None, zoo=world.zoo, num_layers=3) == unchanged


def test_what_an_entry_is_run_over_counts_too(world: World) -> None:
    lower, upper = world.keys["bottleneck-a"], world.keys["bottleneck-b"]
    route = Stack(parts=(Use(entry=lower), Slot()))
    assert num_unchanged(upper, route, zoo=world.zoo, num_layers=3) == 1


def test_what_is_kept_is_not_computed_again(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.alone(tmp_path, "lora-a", languages=["sw"])
    (kept,) = tmp_path.rglob("test-sw-first12.json")
    stamp, opened = kept.stat().st_mtime_ns, loads(monkeypatch)
    rows: list[int] = []
    plain = matrix.predict_sets
    monkeypatch.setattr(
        matrix,
        "predict_sets",
        lambda readers, task, sets, **how: (
            rows.append(len(readers.models) * sum(map(len, sets))) or plain(readers, task, sets, **how)
        ),
    )
    found = world.together(tmp_path, "lora-a", "lora-b")
    assert kept.stat().st_mtime_ns == stamp
    assert [score.language for score in found["lora-a"] if score.metric == "accuracy"] == list(LANGUAGES)
    assert sum(rows) == LIMIT * 5
    assert world.together(tmp_path, "lora-a", "lora-b") == found
    assert len(opened) == 1  # the second time nothing was opened


def test_killed_in_the_middle_what_is_finished_stays(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "ROWS_AT_ONCE", 2 * LIMIT)  # a language of two entries at a time
    done: list[tuple[str, str]] = []

    def kill(name: str, language: str, scores: Any) -> None:
        done.append((name, language))
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.together(tmp_path, "lora-a", "lora-b", on_language=kill)
    a, b = world.keys["lora-a"], world.keys["lora-b"]
    assert done == [(a, "de"), (b, "de"), (a, "sw")]
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("test-*-first12.json")}
    assert len(stamps) == 3
    found = world.together(tmp_path, "lora-a", "lora-b")
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert found == world.together(tmp_path / "fresh", "lora-a", "lora-b")


def failing(world: World, short: str) -> Callable[..., Model]:
    """`open_model`, but one entry's encoder raises."""
    plain = evaluation.open_model

    def opened(name: str, *rest: Any, **how: Any) -> Model:
        model = plain(name, *rest, **how)
        if name == world.keys[short]:

            def broken(*_: Any, **__: Any) -> Any:
                raise RuntimeError("no such luck")

            object.__setattr__(model, "read", broken)
        return model

    return opened


@pytest.mark.parametrize("task", ["mini-nli", "mini-retrieval"])
def test_a_language_whose_file_cannot_be_read_leaves_the_others_their_scores(
    task: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorts = ("lora-a", "lora-b")
    expected = world.together(tmp_path / "sound", *shorts, task=task)
    plain = tasks.load

    def load(spec: Any, split: str, language: str, **how: Any) -> Any:
        if language == "de":  # the first
            raise DataError("test-de.csv: line 2 is not UTF-8")
        return plain(spec, split, language, **how)

    monkeypatch.setattr(tasks, "load", load)
    failures: dict[str, str] = {}
    note = {"on_failure": lambda name, err: failures.update({name: str(err)})}
    found = world.together(tmp_path / "a", *shorts, task=task, **note)
    assert failures == {world.keys[short]: "test-de.csv: line 2 is not UTF-8" for short in shorts}
    for short in shorts:
        assert found[short] == [score for score in expected[short] if score.language != "de"] != []
    with pytest.raises(DataError, match="not UTF-8"):
        world.together(tmp_path / "b", *shorts, task=task)


@pytest.mark.parametrize("task", ["mini-nli", "mini-retrieval"])
def test_an_entry_that_fails_takes_no_other_along(
    task: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorts = ("bottleneck-a", "bottleneck-b", "lora-a")
    expected = world.together(tmp_path / "sound", *shorts, task=task)
    monkeypatch.setattr(evaluation, "open_model", failing(world, "bottleneck-a"))
    failures: list[tuple[str, str]] = []
    found = world.together(
        tmp_path / "a", *shorts, task=task, on_failure=lambda name, err: failures.append((name, str(err)))
    )
    assert failures == [(world.keys["bottleneck-a"], "no such luck")]
    assert found == {**expected, "bottleneck-a": []}
    with pytest.raises(RuntimeError, match="no such luck"):
        world.together(tmp_path / "b", *shorts, task=task)
    monkeypatch.undo()
    assert world.together(tmp_path / "b", *shorts, task=task) == expected


def test_an_entry_without_the_head_is_named_and_the_others_are_scored(world: World, tmp_path: Path) -> None:
    failures: dict[str, str] = {}
    found = world.together(tmp_path, "head", task="mini-pos", on_failure=lambda n, e: failures.update({n: str(e)}))
    assert found == {"head": []}
    assert "has no head for task 'mini-pos'" in failures[world.keys["head"]]
    with pytest.raises(ConfigError, match="has no head for task 'mini-pos'"):
        world.alone(tmp_path, "head", task="mini-pos")


def test_retrieval_reads_every_sentence_once_for_all_entries(world: World, tmp_path: Path) -> None:
    names = ("bottleneck-a", "bottleneck-b")
    alone = {short: world.alone(tmp_path / "alone", short, "mini-retrieval") for short in names}
    assert world.together(tmp_path / "together", *names, task="mini-retrieval") == alone
    for short in names:
        ours, theirs = (
            predictions(tmp_path / where, world.keys[short], "mini-retrieval", "de") for where in ("together", "alone")
        )
        for one, other in zip(ours, theirs, strict=True):
            assert one["id"] == other["id"]
            assert [score for _, score in one["value"]] == pytest.approx([s for _, s in other["value"]], abs=1e-5)
    assert not list(tmp_path.rglob("*.work"))


def test_a_refused_entry_stays_refused_in_the_encoder_it_was_put_into(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_entry(world.keys["lora-a"], zoo=world.zoo)
    plain = building.check_probe

    def refuse(*_: Any) -> None:
        raise ZooError("another answer")

    monkeypatch.setattr(building, "check_probe", refuse)
    with pytest.raises(ZooError, match="another answer"):
        open_entry(world.keys["lora-b"], zoo=world.zoo, beside=first)
    monkeypatch.setattr(building, "check_probe", plain)
    with pytest.raises(ZooError, match="another answer"):
        open_entry(world.keys["lora-b"], zoo=world.zoo, beside=first)
    open_entry(world.keys["lora-a"], zoo=world.zoo, beside=first)


@pytest.mark.parametrize("task", ["mini-nli", "mini-retrieval"])
def test_an_entry_that_is_refused_when_it_answers_changes_no_score_of_its_neighbour(
    task: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its proof has led the encoder over its own route; whoever runs next must take the turn back."""
    shorts, bad = ("lora-a", "lora-b"), world.keys["lora-b"]
    alone = world.alone(tmp_path / "alone", "lora-a", task)
    plain = building._prove

    def refuse(loaded: Any, entry: Any, *rest: Any) -> None:
        plain(loaded, entry, *rest)
        if entry.key == bad:
            raise ZooError("another answer")

    monkeypatch.setattr(building, "_prove", refuse)
    failures: dict[str, str] = {}
    note = {"on_failure": lambda name, err: failures.update({name: str(err)})}
    found = world.together(tmp_path / "together", *shorts, task=task, **note)
    assert failures == {bad: "another answer"} and found["lora-b"] == [] and found["lora-a"] == alone
    for language in LANGUAGES:
        ours, theirs = (
            predictions(tmp_path / where, world.keys["lora-a"], task, language) for where in ("together", "alone")
        )
        assert ours == theirs


@pytest.mark.parametrize("error", [MemoryError("no room"), KeyboardInterrupt()])
def test_an_entry_whose_loading_broke_off_is_not_taken_for_loaded(
    error: BaseException, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_entry(world.keys["bottleneck-a"], zoo=world.zoo)
    method = resolve("bottleneck", {"reduction_factor": 8, "leave_out": (0, 1)})
    plain = type(method).load

    def broken(*_: Any) -> None:
        raise error

    monkeypatch.setattr(type(method), "load", broken)
    with pytest.raises(type(error)):
        open_entry(world.keys["bottleneck-b"], zoo=world.zoo, beside=first)
    monkeypatch.setattr(type(method), "load", plain)
    with pytest.raises(ZooError, match=f"was not loaded to its end .*{type(error).__name__}.*open it again"):
        open_entry(world.keys["bottleneck-b"], zoo=world.zoo, beside=first)
    open_entry(world.keys["bottleneck-b"], zoo=world.zoo)


def test_bfloat16_together_is_bfloat16_alone(world: World, tmp_path: Path) -> None:
    names = ("lora-a", "lora-b")
    options = {"precision": "bf16", "languages": ["de"]}
    alone = {short: world.alone(tmp_path / "alone", short, **options) for short in names}
    assert world.together(tmp_path / "together", *names, **options) == alone


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_kept_rows_change_no_answer_and_entries_of_another_method_find_them(
    precision: str, world: World, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"precision": precision}
    for names, share in ((("lora-a", "lora-b"), 0.0), (("bottleneck-a", "bottleneck-b"), 1.0)):
        expected = world.together(tmp_path / "off", *names, **options)
        assert world.together(tmp_path / "kept", *names, prefix_cache=IN_MEMORY, **options) == expected
        for short in names:
            for language in LANGUAGES:
                ours, theirs = (
                    predictions(tmp_path / where, world.keys[short], "mini-nli", language, precision)
                    for where in ("kept", "off")
                )
                for one, other in zip(ours, theirs, strict=True):
                    bound = 1e-5 if precision == "fp32" else 1e-2
                    assert one["probabilities"] == pytest.approx(other["probabilities"], abs=bound)
        use = open_store(IN_MEMORY).use
        assert use.asked >= LIMIT * len(LANGUAGES)  # once for both; in bfloat16 rows that fill a batch as well
        assert use.share == share


def test_retrieval_finds_kept_rows_together_and_alone(world: World, tmp_path: Path) -> None:
    names, task = ("lora-a", "lora-b"), "mini-retrieval"
    expected = world.together(tmp_path / "off", *names, task=task)
    assert world.together(tmp_path / "kept", *names, task=task, prefix_cache=IN_MEMORY) == expected
    alone = world.alone(tmp_path / "alone", "lora-a", task, prefix_cache=IN_MEMORY)
    assert alone == expected["lora-a"]
    assert open_store(IN_MEMORY).use.share == 1.0


def test_entries_that_are_resident_say_what_is_kept_and_how(world: World, tmp_path: Path) -> None:
    setting = PrefixCache(storage="bf16", folder=tmp_path / "rows")
    opened = evaluation.Opened(zoo=world.zoo, device="cpu", backbone=None, prefix_cache=setting)
    stamps = []
    for options in ({}, {"opened": opened}, {"prefix_cache": setting}, {}):
        world.together(tmp_path / "runs", "lora-a", languages=["de"], **options)
        stamps.append(next((tmp_path / "runs").rglob("test-de-first12.json")).stat().st_mtime_ns)
    assert stamps[0] < stamps[1] == stamps[2] < stamps[3]
    assert list((tmp_path / "rows").rglob("*.rows"))  # written when the passes were done
