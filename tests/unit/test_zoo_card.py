"""Cards: written strictly, read strictly, and nothing that was tampered with is believed."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zoo_samples import a_run, an_entry, reseal, some_facts

from adapters_xling import spec
from adapters_xling.errors import ConfigError, XlingError, ZooError
from adapters_xling.zoo import Card, Facts, FileDigest, Probe, Training, Zoo, provenance
from adapters_xling.zoo import card_file as cards
from adapters_xling.zoo.card import KEY, build
from adapters_xling.zoo.origin import clean, command

FILES = {"model.safetensors": FileDigest(sha256="d" * 64, num_bytes=8)}
RAW = cards.render(build(a_run(), some_facts(), files=FILES, provenance=provenance(), clean=clean))
PLAIN: dict[str, Any] = json.loads(RAW)
FIT = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def changed(**values: Any) -> dict[str, Any]:
    return {**copy.deepcopy(PLAIN), **values}


def refusal(plain: Any) -> str:
    with pytest.raises(ZooError) as caught:
        cards.parse(plain if isinstance(plain, bytes) else reseal(plain), "card.json")
    return str(caught.value)


def test_a_card_reads_back_as_it_was_written() -> None:
    card = cards.parse(RAW, "card.json")
    assert cards.parse(cards.render(card), "again") == card
    assert spec.canonical_json(json.loads(cards.render(card))) == spec.canonical_json(PLAIN)
    assert card.run == a_run() and card.key == spec.key(a_run()) and card.digest == spec.digest(a_run())
    assert card.training is not None and card.training["metric"] == "accuracy" == card.training.get("metric")
    assert card.data["mini-nli/train/en"].dropped == {"empty": 1}


def test_threads_that_read_the_first_card_at_once_all_get_it() -> None:
    """In a process of its own: only the first read of a kind of data was unsafe, and it crashed."""
    code = """
import sys, threading
from adapters_xling.paths import shipped_zoo_dir
from adapters_xling.zoo import card_file
folder = next(shipped_zoo_dir().glob("*/card.json")).parent
sys.setswitchinterval(1e-6)
start, found = threading.Barrier(8), []
def read():
    start.wait()
    found.append(card_file.read(folder).key)
threads = [threading.Thread(target=read) for _ in range(8)]
for one in threads: one.start()
for one in threads: one.join()
assert found == [folder.name] * 8, found
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)


def test_keys_of_runs_match_the_pattern_that_makes_a_folder_an_entry() -> None:
    for run in (a_run(), a_run("Anli+ x/..", seed=-3), a_run("t" * 96, method="bottleneck", seed=10**12)):
        assert KEY.fullmatch(spec.key(run)), spec.key(run)


def test_facts_may_be_plain_mappings_and_are_read_strictly() -> None:
    training = msgspec.to_builtins(some_facts().training)
    assert some_facts(training=training).training == some_facts().training
    with pytest.raises(ConfigError, match=r"facts\.training: metrik is not a field.*'metric'"):
        some_facts(training={**training, "metrik": "f1"})
    with pytest.raises(ConfigError, match=r"facts\.heads\.x"):
        some_facts(heads={"x": {"kind": "poem", "labels": [], "task": "x"}})


def test_probe_and_training_must_be_named_even_when_there_are_none() -> None:
    with pytest.raises(TypeError, match="probe"):
        Facts(backbone_fingerprint="", heads={}, training=None, num_trainable=0, num_parameters=0)  # type: ignore[call-arg]


def test_a_probe_holds_finite_numbers_and_one_output_per_input() -> None:
    good = {"task": "t", "inputs": ({"input_ids": [1]},), "outputs": [[0.5]], "tolerance": 0.1}
    Probe(**good)
    for field, value in (("outputs", [[float("nan")]]), ("outputs", []), ("inputs", ({"input_ids": ["a"]},))):
        with pytest.raises(ValueError, match=r"outputs|inputs|one output per input"):
            Probe(**{**good, field: value})


def test_a_loss_that_was_no_number_is_kept_as_null_and_a_loss_of_zero_as_zero() -> None:
    losses = ((1, float("nan")), (2, 0.0), (3, float("inf")))
    training = msgspec.structs.replace(some_facts().training, losses=losses)
    assert Training.__name__ == type(training).__name__
    assert training.losses == ((1, None), (2, 0.0), (3, None))


def test_a_score_that_is_no_number_is_refused_before_anything_is_published(tmp_path: Path) -> None:
    zoo = Zoo(tmp_path, fallbacks=())
    training = msgspec.structs.replace(some_facts().training, dev_score=float("nan"))
    with pytest.raises(ZooError, match="finite"):
        an_entry(zoo, training=training)
    assert zoo.keys() == () and not list((tmp_path / ".partial").iterdir())


def test_facts_of_a_wrong_type_are_refused_with_the_field_before_anything_is_published(tmp_path: Path) -> None:
    zoo = Zoo(tmp_path, fallbacks=())
    with pytest.raises(ZooError, match="num_trainable"):
        an_entry(zoo, num_trainable="many")
    assert zoo.keys() == ()


def test_a_card_of_a_newer_schema_is_refused_with_the_way_out() -> None:
    assert "newer adapters_xling" in refusal(changed(schema=2, surprise=1))
    assert "pip install -U" in refusal(changed(schema=2))
    run = {**PLAIN["run"], "schema": spec.SCHEMA + 1}
    assert "run.schema" in refusal(changed(run=run))
    for bad in (0, True, "1", None, 1.5):
        assert "card.json: schema" in refusal(changed(schema=bad))


def test_what_does_not_follow_from_the_run_is_refused_even_with_a_fitting_seal() -> None:
    assert "digest" in refusal(changed(digest="0" * 64))
    assert "key" in refusal(changed(key=PLAIN["key"][:-1] + "x"))
    assert "parents" in refusal(changed(parents=["mini-nli-lora-fresh-xlmr-nano-s0-0123456789abcdef"]))
    assert "digest" in refusal(changed(run={**PLAIN["run"], "seed": 1}))


def test_duplicate_keys_are_refused_at_any_depth() -> None:
    assert "'seed' is given twice" in refusal(RAW.replace(b'"seed": 0', b'"seed": 0, "seed": 0'))
    assert "'notes' is given twice" in refusal(RAW.replace(b'"notes": ""', b'"notes": "", "notes": ""'))


@pytest.mark.parametrize(
    "name",
    [
        "../x.json",
        "/etc/x.json",
        "a/../x.json",
        "a//x.json",
        "./x.json",
        "a\\x.json",
        "C:x.json",
        "",
        ".",
        "card.json",
        "a\n.json",
        "a/",
        "\ud800.json",
    ],
)
def test_file_names_that_leave_the_entry_are_refused(name: str) -> None:
    assert "card.json" in refusal(json.dumps(changed(files={name: PLAIN["files"]["model.safetensors"]})).encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe",
        RAW[:-3],
        RAW + b"{}",
        b'{"schema": 1e999}',
        b"9" * 5000,
        b"[" * 100_000,
        RAW.replace(b"81.25", b"NaN"),
        RAW.replace(b"81.25", b"1e999"),
        b"\xef\xbb\xbf" + RAW,
    ],
)
def test_bytes_that_are_no_card_are_refused(raw: bytes) -> None:
    assert refusal(raw).startswith("card.json: ")


def test_an_oversize_card_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = an_entry(Zoo(tmp_path, fallbacks=()))
    monkeypatch.setattr(cards, "MAX_CARD_BYTES", 1000)
    with pytest.raises(ZooError, match=r"bytes, a card has at most 1,000"):
        cards.read(entry.folder)
    with pytest.raises(ZooError, match="thin out"):
        cards.render(entry.card)


# --- random damage ----------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


def spots(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for k, v in inside for path in ((*here, k), *spots(v, (*here, k)))]


SPOTS = spots({name: value for name, value in PLAIN.items() if name != "seal"})


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """The card with one to three values replaced, removed, renamed or added."""
    plain = copy.deepcopy(PLAIN)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(SPOTS))
        parent: Any = plain
        try:
            for step in path[:-1]:
                parent = parent[step]
            old = parent[path[-1]]
        except (KeyError, IndexError, TypeError):
            continue
        how = draw(st.sampled_from(("replace", "nudge", "remove", "rename", "add")))
        if how == "nudge" and isinstance(old, (int, float)) and not isinstance(old, bool):
            parent[path[-1]] = old + 1
        elif how == "nudge" and isinstance(old, str):
            parent[path[-1]] = old + "x"
        elif how == "remove":
            del parent[path[-1]]
        elif how == "rename" and isinstance(parent, dict):
            parent[draw(st.text(max_size=8))] = parent.pop(path[-1])
        elif how == "add" and isinstance(old, dict):
            old[draw(st.text(max_size=8))] = draw(JSON)
        else:
            parent[path[-1]] = draw(JSON)
    return plain


def meaning(plain: Any) -> str:
    return spec.canonical_json(plain)


@given(mutated())
@FIT
def test_a_card_changed_in_meaning_is_never_accepted(plain: dict[str, Any]) -> None:
    try:
        cards.parse(json.dumps(plain).encode(), "zoo/x/card.json")
    except XlingError as err:
        assert isinstance(err, ZooError) and str(err).startswith("zoo/x/card.json: ") and len(str(err)) > 30
    else:
        assert meaning(plain) == meaning(PLAIN)


@given(mutated())
@FIT
def test_a_forged_seal_cannot_carry_a_wrong_type_or_another_run(plain: dict[str, Any]) -> None:
    try:
        forged = reseal(plain)
    except ValueError:  # an infinity has no seal at all
        forged = json.dumps(plain).encode()
    try:
        card = cards.parse(forged, "zoo/x/card.json")
    except XlingError as err:
        assert isinstance(err, ZooError) and str(err).startswith("zoo/x/card.json: ")
    else:
        assert isinstance(card, Card) and card.run == a_run() and card.digest == PLAIN["digest"]
        assert cards.parse(cards.render(card), "again") == card


@given(st.integers(0, len(RAW) - 1), st.integers(1, 255), st.sampled_from(("flip", "cut", "insert", "drop")))
@FIT
def test_damaged_bytes_never_give_another_card(at: int, byte: int, how: str) -> None:
    raw = {
        "flip": RAW[:at] + bytes([RAW[at] ^ byte]) + RAW[at + 1 :],
        "cut": RAW[:at],
        "insert": RAW[:at] + bytes([byte]) + RAW[at:],
        "drop": RAW[:at] + RAW[at + 1 :],
    }[how]
    try:
        card = cards.parse(raw, "zoo/x/card.json")
    except XlingError as err:
        assert str(err).startswith("zoo/x/card.json: ")
    else:
        assert meaning(json.loads(raw)) == meaning(PLAIN) and card == cards.parse(RAW, "")


# --- provenance -------------------------------------------------------------------------------------------------


def test_no_private_path_host_or_user_name_reaches_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import platform
    import sys

    monkeypatch.setattr(
        sys, "argv", ["/home/zebedee/venv/bin/xling", "train", "--data", "/home/zebedee/rows", "../../zebedee/x"]
    )
    rows = {
        "t/train/en": {"kept": 1, "source": "/home/zebedee/d.tsv", "samples": [["/home/zebedee/d.tsv", 3, "empty"]]}
    }
    entry = an_entry(Zoo(tmp_path, fallbacks=()), data=rows, notes="see /home/zebedee/notes.md")
    text = (entry.folder / "card.json").read_text()
    assert "zebedee" not in text and str(tmp_path) not in text
    assert len(platform.node()) < 3 or platform.node() not in text
    assert entry.card.provenance.command == "xling train --data …/rows …/x"
    assert entry.card.notes == "see …/notes.md"
    assert entry.card.provenance.created.endswith("Z") and entry.card.provenance.packages["msgspec"]


def test_tokens_are_blotted_out_of_the_command() -> None:
    line = command(["xling", "push", "--token", "s3cr3t", "--api-key=s3cr3t", "hf_abcdefghijk", "--lr", "1e-4"])
    assert "s3cr3t" not in line and "hf_abc" not in line and line.endswith("--lr 1e-4")


def test_git_state_is_null_outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    from adapters_xling.zoo import origin as module

    monkeypatch.setattr(module, "_PACKAGE", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    module.state_at_start.cache_clear()
    found = module.provenance()
    module.state_at_start.cache_clear()
    assert (found.commit, found.dirty, found.checkout) == (None, None, None)

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "a.txt").write_text("1")
    git("add", "a.txt")
    assert module.git_state() == (None, True, "folder")
    git("-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qm", "first")
    assert module.git_state() == (git("rev-parse", "HEAD"), False, "folder")
    (tmp_path / "a.txt").write_text("2")
    assert module.git_state() == (git("rev-parse", "HEAD"), True, "folder")


def test_a_card_names_the_code_that_ran_and_not_what_was_committed_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapters_xling.zoo import origin as module

    states = iter([("a" * 40, False, "package"), ("b" * 40, False, "package"), ("a" * 40, False, "package")])
    monkeypatch.setattr(module, "git_state", lambda: next(states))
    module.state_at_start.cache_clear()
    module.code.cache_clear()
    try:
        found, again = module.provenance(), module.provenance()
        assert (found.commit, found.dirty) == ("a" * 40, True), "what came after it may have been read by then"
        assert (again.commit, again.dirty) == ("a" * 40, False)
        assert module.code()[0] == "a" * 40
        module.state_at_start.cache_clear()
        module.code.cache_clear()
        monkeypatch.setattr(module, "git_state", lambda: ("c" * 40, True, "package"))
        assert module.code()[0] == "c" * 40 + "-dirty"
    finally:
        module.state_at_start.cache_clear()
        module.code.cache_clear()


def test_a_worker_of_a_cluster_says_what_it_works_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own command line holds the cluster's addresses."""
    from adapters_xling.grid.executors import ray_cluster
    from adapters_xling.zoo import origin as module

    monkeypatch.setattr(sys, "argv", ["/usr/bin/xling", "run", "mini", "--runs=/home/ada/runs"])
    sent = ray_cluster._environment()
    assert sent["XLING_COMMAND"] == "xling run mini --runs=…/runs"
    monkeypatch.setattr(sys, "argv", ["default_worker.py", "--node-ip-address=192.0.2.2"])
    for name, value in sent.items():
        monkeypatch.setenv(name, value)
    assert module.provenance().command == sent["XLING_COMMAND"]
