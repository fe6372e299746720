"""Trains the nano backbone ``xlmr-nano``: tokenizer, start vectors, masked language model, figures.

The closed mini world is always read; with ``--data-dir`` (or ``XLING_DATA``) a share of the batches is real text in 40
languages. What makes this work in minutes on two cores: token vectors start from the singular vectors of a token by
sentence-number table (a sentence keeps its number in all its translations) mixed with random ones; pairs are
masked on one side only, so the other side can be copied from; a small contrastive term on a middle layer keeps
translations close; matrices are trained with Muon.

    python scripts/pretrain_nano.py --minutes 120 --out zoo/xlmr-nano --checkpoint-dir CACHE --data-dir DATA
    python scripts/pretrain_nano.py ... --resume            # goes on after a stop
    python scripts/pretrain_nano.py ... --resume --minutes 240   # a longer budget: from the checkpoint before the decay
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the threads of --threads share a batch, not a matrix product
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch
import torch.nn.functional as F
from nano import card, corpus, data, evaluate, start, vocab
from torch import nn
from transformers import XLMRobertaConfig, XLMRobertaModel

MAX_TOKENS = 256
IGNORE = -100


class MaskedModel(nn.Module):
    """XLM-R encoder with the usual masked-token head; the output matrix is the token matrix."""

    def __init__(self, config: XLMRobertaConfig) -> None:
        super().__init__()
        self.encoder = XLMRobertaModel(config, add_pooling_layer=False)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def loss(
        self, ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor, among: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Cross-entropy at the masked positions of a batch [rows, tokens]; also the right guesses and their number.

        ``among`` [pieces] restricts the guesses to the pieces that the batch's kind of text can contain: besides the
        time saved, pieces that never are the answer are then not pushed about by the optimiser's step normalisation.
        """
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        chosen = labels != IGNORE
        h = self.norm(F.gelu(self.dense(hidden[chosen])))
        table, bias, target = self.encoder.embeddings.word_embeddings.weight, self.bias, labels[chosen]
        if among is not None:
            table, bias = F.embedding(among, table), bias[among]
            place = torch.zeros(len(self.bias), dtype=torch.long, device=ids.device)
            place[among] = torch.arange(len(among), device=ids.device)
            target = place[target]
        logits = h @ table.T + bias
        return F.cross_entropy(logits.float(), target), (logits.argmax(-1) == target).sum(), len(target)

    def pooled(self, ids: torch.Tensor, mask: torch.Tensor, layers: int) -> torch.Tensor:
        """Mean over tokens after the first ``layers`` layers, [rows, width], unit length."""
        embedded = self.encoder.embeddings(input_ids=ids)
        wide = (1.0 - mask[:, None, None, :].to(embedded.dtype)) * torch.finfo(embedded.dtype).min
        for layer in self.encoder.encoder.layer[:layers]:
            out = layer(embedded, attention_mask=wide)
            embedded = out[0] if isinstance(out, tuple) else out
        weight = mask[:, :, None].to(embedded.dtype)
        return F.normalize((embedded * weight).sum(1) / weight.sum(1), dim=-1)


def mask_batch(
    rows: list[data.Row], rng: np.random.Generator, vocab_size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows to (ids, mask, labels), [rows, longest]; each row says how much of each of its sides to hide."""
    width = max(len(r.ids) for r in rows)
    ids = np.full((len(rows), width), vocab.PAD, dtype=np.int64)
    rate = np.zeros((len(rows), width), dtype=np.float32)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = row.ids
        rate[i, 1 : row.split] = row.rates[0]
        rate[i, row.split : len(row.ids)] = row.rates[1]
    rate[ids <= vocab.UNK] = 0.0
    hide = rng.random(ids.shape) < rate
    if not hide.any():
        hide[0, 1] = True
    labels = np.where(hide, ids, IGNORE)
    dice = rng.random(ids.shape)
    shown = ids.copy()
    shown[hide & (dice < 0.85)] = vocab_size - 1
    swap = hide & (dice >= 0.85) & (dice < 0.92)
    shown[swap] = rng.integers(4, vocab_size - 1, int(swap.sum()))
    return torch.from_numpy(shown), torch.from_numpy((ids != vocab.PAD).astype(np.int64)), torch.from_numpy(labels)


def start_vectors(model: MaskedModel, columns: list[list[np.ndarray]], args: argparse.Namespace) -> None:
    """Sets the token vectors from the token by sentence-number table, mixed with random unit vectors."""
    size, width = model.encoder.embeddings.word_embeddings.weight.shape
    seeded, known = start.singular_vectors(columns, size, width, args.seed)
    rng = np.random.default_rng(args.seed)
    noise = rng.standard_normal((size, width)).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    mixed = np.where(known[:, None], seeded + args.random_weight * noise, noise)
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    with torch.no_grad():
        words = model.encoder.embeddings.word_embeddings.weight
        words.copy_(torch.from_numpy(mixed * 0.6))
        words[vocab.PAD].zero_()
        spread = float(words.std())
        for table in (model.encoder.embeddings.position_embeddings, model.encoder.embeddings.token_type_embeddings):
            table.weight.normal_(0.0, spread)
        model.encoder.embeddings.position_embeddings.weight[vocab.PAD].zero_()
        model.bias.copy_(torch.from_numpy(start.log_frequencies(columns, size)))


def optimisers(model: MaskedModel, args: argparse.Namespace) -> tuple[list[torch.optim.Optimizer], list[float]]:
    """Muon for the matrices inside the encoder and head, Adam for the rest (token vectors at half its rate).

    The matrices are dealt out to one Muon per thread, since each of them is handled alone.
    """
    matrices, tables, rest = [], [], []
    for name, p in model.named_parameters():
        (
            tables if "embeddings.word" in name else matrices if p.ndim == 2 and "embeddings" not in name else rest
        ).append(p)
    dealt = [matrices[i :: args.threads] for i in range(args.threads)]
    muons = [torch.optim.Muon(part, lr=args.matrix_rate, weight_decay=0.01, momentum=0.95) for part in dealt]
    adam = torch.optim.Adam(
        [{"params": tables, "lr": args.rate / 2, "eps": args.table_epsilon}, {"params": rest, "lr": args.rate}],
        betas=(0.9, 0.98),
    )
    opts = [*muons, adam]
    return opts, [group["lr"] for o in opts for group in o.param_groups]


def rate_factor(step: int, elapsed: float, budget: float, decay: float) -> float:
    """Warm-up by steps, then flat, then linear to a twentieth over the last ``decay`` part of the time budget."""
    warm = min(1.0, (step + 1) / 100)
    left = (1.0 - elapsed / budget) / decay
    return warm * max(0.05, min(1.0, left))


def contrast(model: MaskedModel, pairs: list[tuple[np.ndarray, np.ndarray]], layer: int, device: str) -> torch.Tensor:
    """Each sentence should find its translation among the batch's (both directions, temperature 0.1)."""
    width = max(len(x) for pair in pairs for x in pair)
    ids = np.full((2 * len(pairs), width), vocab.PAD, dtype=np.int64)
    for i, pair in enumerate(pairs):
        for side in (0, 1):
            ids[i + side * len(pairs), : len(pair[side])] = pair[side]
    tensor = torch.from_numpy(ids).to(device)
    vectors = model.pooled(tensor, (tensor != vocab.PAD).long(), layer)
    scores = vectors[: len(pairs)] @ vectors[len(pairs) :].T / 0.1
    target = torch.arange(len(pairs), device=device)
    return (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2


class Share(NamedTuple):
    """What one thread adds to a step: gradients in the order of the parameters, and its counts."""

    gradients: tuple[torch.Tensor | None, ...]
    kind: str
    right: int
    masked: int
    loss: float
    pull: float
    tokens: int


def share(model: MaskedModel, shard: data.Source, pieces: torch.Tensor, args: argparse.Namespace) -> Share:
    """Draws a batch from a shard and differentiates both objectives on it; parameters are only read."""
    kind, rows = shard.batch()
    ids, mask, labels = mask_batch(rows, shard.masks, len(shard.tokenizer))
    with torch.autocast(args.device, dtype=torch.bfloat16, enabled=args.bf16):
        among = pieces if kind == "mini" else None
        loss, right, total = model.loss(ids.to(args.device), mask.to(args.device), labels.to(args.device), among)
        pull = contrast(model, shard.pairs(32), args.contrast_layer, args.device)
    gradients = torch.autograd.grad(loss + args.contrast_weight * pull, list(model.parameters()), allow_unused=True)
    return Share(gradients, kind, int(right), total, float(loss.detach()), float(pull.detach()), int(mask.sum()))


def set_gradients(model: MaskedModel, shares: list[Share]) -> None:
    """Mean of the shares' gradients, as ``grad`` of every parameter."""
    for number, p in enumerate(model.parameters()):
        parts = [g for s in shares if (g := s.gradients[number]) is not None]
        p.grad = sum(parts[1:], parts[0]) / len(shares) if parts else None


def save_checkpoint(
    path: Path, model: MaskedModel, opts: list[torch.optim.Optimizer], state: dict, shards: list[data.Source]
) -> None:
    """Writes everything a later process needs to go on, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(
        {
            "model": model.state_dict(),
            "optimisers": [o.state_dict() for o in opts],
            "state": state,
            "torch_rng": torch.get_rng_state(),
            "shards": [shard.state() for shard in shards],
        },
        temporary,
    )
    temporary.replace(path)


def choose_checkpoint(work: Path, budget: float) -> Path | None:
    """Where to go on: a run finished within ``budget`` seconds as it is (figures and files are made anew), a finished
    shorter one from before its decay, an interrupted one from its last checkpoint."""
    final, stable, last = (work / f"{name}.pt" for name in ("final", "stable", "last"))
    if final.exists():
        elapsed = torch.load(final, map_location="cpu", weights_only=False)["state"]["elapsed"]
        if elapsed >= budget or not stable.exists():
            return final
        return stable
    return last if last.exists() else None


def export(model: MaskedModel, tokenizer_dir: Path, out: Path, figures: dict) -> None:
    """Writes the folder that ``from_pretrained`` reads, in fp16, through a temporary folder and a rename."""
    from safetensors.torch import save_file

    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(tokenizer_dir, temporary)
    state = {
        k: v.detach().cpu().half().contiguous()
        for k, v in model.encoder.state_dict().items()
        if "position_ids" not in k
    }
    save_file(state, temporary / "model.safetensors", metadata={"format": "pt"})
    head = {
        "lm_head.dense.weight": model.dense.weight,
        "lm_head.dense.bias": model.dense.bias,
        "lm_head.layer_norm.weight": model.norm.weight,
        "lm_head.layer_norm.bias": model.norm.bias,
        "lm_head.bias": model.bias,
    }
    save_file(
        {k: v.detach().cpu().half().contiguous() for k, v in head.items()},
        temporary / "lm_head.safetensors",
        metadata={"format": "pt"},
    )
    config = model.encoder.config.to_dict() | {"architectures": ["XLMRobertaModel"], "dtype": "float32"}
    for key in ("_name_or_path", "torch_dtype"):
        config.pop(key, None)
    (temporary / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (temporary / "training.json").write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (temporary / "README.md").write_text(card.render(figures), encoding="utf-8")
    for path in temporary.iterdir():
        path.chmod(0o644)
    old = out.with_name(out.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists():
        out.replace(old)
    temporary.replace(out)
    shutil.rmtree(old, ignore_errors=True)


def parse() -> argparse.Namespace:
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--minutes", type=float, default=120.0, help="of training steps, by the clock")
    p.add_argument("--out", type=Path, default=Path("zoo/xlmr-nano"))
    p.add_argument("--checkpoint-dir", type=Path, default=Path.home() / ".cache" / "adapters_xling" / "nano")
    p.add_argument("--data-dir", type=Path, default=os.environ.get("XLING_DATA") or None)
    p.add_argument("--resume", action="store_true")
    p.add_argument("--threads", type=int, default=2, help="each draws its own batch; a step takes the mean")
    p.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--real-fraction", type=float, default=0.3, help="share of batches that are real text")
    p.add_argument("--batch-tokens", type=int, default=2800, help="a thread and step, padding counted; real text: 2/3")
    p.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"], help="of matrix products")
    p.add_argument("--hidden-size", type=int, default=128)
    p.add_argument("--layers", type=int, default=4)
    p.add_argument("--contrast-layer", type=int, default=2)
    p.add_argument("--contrast-weight", type=float, default=0.15)
    p.add_argument("--random-weight", type=float, default=0.7)
    p.add_argument("--rate", type=float, default=2e-3, help="Adam; half of it for the token vectors")
    p.add_argument("--matrix-rate", type=float, default=0.01, help="Muon")
    p.add_argument("--table-epsilon", type=float, default=1e-7, help="keeps rarely met token vectors still")
    p.add_argument("--decay", type=float, default=0.5)
    p.add_argument("--lines-per-language", type=int, default=12000)
    p.add_argument("--report-minutes", type=float, default=5.0)
    args = p.parse_args()
    if math.isnan(args.minutes) or args.minutes <= 0 or args.threads < 1:
        raise SystemExit("--minutes must be positive and --threads at least 1")
    if args.device == "cuda":
        args.threads = 1
    args.bf16 = args.precision == "bf16" or (
        args.precision == "auto" and (args.device == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )
    return args


def train(args: argparse.Namespace) -> None:
    """Builds or reads the tokenizer and data, trains within the budget, exports with figures."""
    torch.set_num_threads(1)
    sys.setswitchinterval(2e-4)  # a thread between two products should not wait for another one's drawing of rows
    torch.manual_seed(args.seed)
    work = args.checkpoint_dir
    work.mkdir(parents=True, exist_ok=True)
    real_dir, held = corpus.unpack(args.data_dir, work) if args.data_dir else (None, None)
    tokenizer_dir = work / "tokenizer"
    if not (tokenizer_dir / "tokenizer.json").exists():
        vocab.build(tokenizer_dir, real_dir, args.seed)
    tokenizer = vocab.load(tokenizer_dir)
    size = len(tokenizer)
    source = data.Source(tokenizer, real_dir, held, work, args)
    config = XLMRobertaConfig(
        vocab_size=size,
        hidden_size=args.hidden_size,
        num_hidden_layers=args.layers,
        num_attention_heads=4,
        intermediate_size=4 * args.hidden_size,
        max_position_embeddings=MAX_TOKENS + 2,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        bos_token_id=vocab.BOS,
        pad_token_id=vocab.PAD,
        eos_token_id=vocab.EOS,
    )
    # On a CPU the fused attention's bf16 backward takes ten times as long as plain matrix products.
    config._attn_implementation = "eager" if args.device == "cpu" else "sdpa"
    model = MaskedModel(config)
    state = {"step": 0, "elapsed": 0.0, "cpu": 0.0, "tokens": 0}
    shards = [source.shard(i) for i in range(args.threads)]
    checkpoint = work / "last.pt"
    resumed = choose_checkpoint(work, args.minutes * 60) if args.resume else None
    if resumed is not None:
        saved = torch.load(resumed, map_location="cpu", weights_only=False)
        model.load_state_dict(saved["model"])
        state = saved["state"]
        torch.set_rng_state(saved["torch_rng"])
        if len(saved["shards"]) != args.threads:
            raise SystemExit(f"the checkpoint was written with --threads {len(saved['shards'])}")
        for shard, at in zip(shards, saved["shards"], strict=True):
            shard.restore(at)
    else:
        saved = None
        begin = time.perf_counter()
        start_vectors(model, source.columns(), args)
        print(f"start vectors: {time.perf_counter() - begin:.0f} s", flush=True)
    model.to(args.device)
    opts, base = optimisers(model, args)
    if saved is not None:
        for o, s in zip(opts, saved["optimisers"], strict=False):
            o.load_state_dict(s)
    print(f"vocabulary {size}, parameters {sum(p.numel() for p in model.parameters()):,}, start at {state}", flush=True)

    mini_pieces = torch.tensor(source.mini_pieces(), device=args.device)
    budget = args.minutes * 60
    before, spent = state["elapsed"], state["cpu"]
    begin, cpu_begin = time.perf_counter(), time.process_time()
    last_report = last_save = begin
    tally = new_tally()
    kept_stable = state["elapsed"] > budget * (1 - args.decay)
    pool = ThreadPoolExecutor(args.threads, initializer=torch.set_num_threads, initargs=(1,))
    while True:
        state["elapsed"] = before + time.perf_counter() - begin
        state["cpu"] = spent + time.process_time() - cpu_begin
        if state["elapsed"] >= budget:
            break
        if not kept_stable and state["elapsed"] > budget * (1 - args.decay):
            save_checkpoint(work / "stable.pt", model, opts, state, shards)
            kept_stable = True
        factor = rate_factor(state["step"], state["elapsed"], budget, args.decay)
        groups = [g for o in opts for g in o.param_groups]
        for group, lr in zip(groups, base, strict=True):
            group["lr"] = lr * factor
        shares = list(pool.map(lambda shard: share(model, shard, mini_pieces, args), shards))
        set_gradients(model, shares)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        list(pool.map(lambda o: o.step(), opts))
        state["step"] += 1
        state["tokens"] += sum(s.tokens for s in shares)
        for s in shares:
            tally[s.kind] = [
                a + b for a, b in zip(tally[s.kind], (s.right, s.masked, s.loss, 1, s.tokens), strict=True)
            ]
            tally["pull"] = [tally["pull"][0] + s.pull, tally["pull"][1] + 1]
        now = time.perf_counter()
        if now - last_report > args.report_minutes * 60:
            report(model, source, tally, state, now - last_report, budget, factor, args)
            before -= time.perf_counter() - now
            tally, last_report = new_tally(), time.perf_counter()
        if now - last_save > 300:
            save_checkpoint(checkpoint, model, opts, state, shards)
            last_save = now
    pool.shutdown()
    save_checkpoint(work / "final.pt", model, opts, state, shards)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.half().float())
    figures = evaluate.figures(model, tokenizer, source, state, args)
    export(model, tokenizer_dir, args.out, figures)
    print(f"wrote {args.out.name}: " + json.dumps(figures["summary"]), flush=True)


def new_tally() -> dict[str, list[float]]:
    """Right guesses, masked positions, loss, batches and tokens by kind since the last progress line."""
    return {"mini": [0.0] * 5, "real": [0.0] * 5, "pull": [0.0, 0.0]}


def report(
    model: MaskedModel,
    source: data.Source,
    tally: dict[str, list[float]],
    state: dict,
    seconds: float,
    budget: float,
    factor: float,
    args: argparse.Namespace,
) -> None:
    """One progress line; ``seconds`` of wall-clock time since the last one."""
    parts = []
    for kind in ("mini", "real"):
        right, total, loss, batches, _ = tally[kind]
        if batches:
            parts.append(f"{kind} loss {loss / batches:.3f} acc {right / max(1, total):.3f}")
    speed = sum(tally[kind][4] for kind in ("mini", "real")) / seconds
    pull, number = tally["pull"]
    print(
        f"{state['elapsed'] / 60:6.1f} of {budget / 60:.0f} min step {state['step']} "
        f"{state['tokens'] / 1e6:.2f}M tokens {speed:.0f}/s lr x{factor:.2f} {' | '.join(parts)} | "
        f"pull {pull / max(1, number):.3f} | {evaluate.quick(model, source, args.device)}",
        flush=True,
    )


if __name__ == "__main__":
    arguments = parse()
    random.seed(arguments.seed)
    train(arguments)
