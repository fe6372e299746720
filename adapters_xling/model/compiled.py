"""The encoder's passes through `torch.compile`, with one graph for any number of resident entries.

A compiled graph holds for the Python objects it was traced over. Traced over a live encoder, that is the name of the
active slot too: every switch makes another graph, until torch's limit (8 graphs of one function) and then, unless told
otherwise, runs without any. So what is traced here is a *stand-in*: a copy of the encoder without weights, over a route
whose slots stand for any. All tensors, the backbone's and those of the active slots, are handed in with every pass.

What else a graph depends on is its *form*: architecture, hidden states it starts and ends at, the route with its slots
numbered, and what each slot's settings say beside sizes. There is one `Graph` for each form in a process, whichever
encoder asks, so that fully fine-tuned models of one architecture share theirs. It holds as many compiled versions as
torch needs: one for several rows of any number and width, one for a row alone, and each once more when slots of other
sizes come.

Where rows of a batch belong to different entries, those of equal form have their tensors in a *bank*, and every row
takes its own from there.

Shapes: N rows, T tokens, D hidden size, I and O width of a linear map's input and output, E entries of a bank.
"""

from __future__ import annotations

import copy
import itertools
import time
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from adapters_xling.backbones import Family
from adapters_xling.composition import transform
from adapters_xling.errors import ConfigError
from adapters_xling.methods import Method
from adapters_xling.methods.slots import named_tensors, slots
from adapters_xling.spec import Base, Route, Use, canonical, digest

from .layers import run_layers

BACKEND = "inductor"
"""torch's own; tests count graphs with a quicker one."""

_GRAPHS: dict[str, Graph] = {}
"""Digest of a form -> its graph; for the life of the process, as torch keeps compiled code."""
_NUMBERS = itertools.count()
"""For the names of compiled functions, by which torch remembers what it learnt about sizes."""


def num_graphs() -> int:
    """Graphs compiled in this process so far."""
    return sum(graph.num_compiled for graph in _GRAPHS.values())


def use() -> str:
    """What was compiled in this process, in words; empty where nothing was."""
    graphs = num_graphs()
    if not graphs:
        return ""
    seconds = sum(graph.seconds for graph in _GRAPHS.values())
    return f"torch.compile: {graphs} graph{'s' if graphs > 1 else ''} in {seconds:.0f} s"


@dataclass(frozen=True)
class Span:
    """Part of an encoder's layers.

    Attributes:
        start: hidden state to start from; None starts from the tokens.
        stop: hidden state to return.
    """

    start: int | None
    stop: int


@dataclass
class Bank:
    """Tensors of entries of equal form, along a new first dimension; narrower ones end in zeros.

    Attributes:
        places: number of each route in it.
        operands: of each, by the names in the stand-in.
        tensors: (E,…) by the same names.
    """

    places: dict[Route, int] = field(default_factory=dict)
    operands: list[dict[str, Tensor]] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def add(self, new: Mapping[Route, dict[str, Tensor]]) -> None:
        """Take in routes that are not there yet."""
        for route, operands in new.items():
            self.places[route] = len(self.places)
            self.operands.append(operands)
        self.tensors = {name: _stacked([one[name] for one in self.operands]) for name in self.operands[0]}
        for tensor in self.tensors.values():
            _mark(tensor, 0)


class Compiled:
    """Compiled passes of an encoder and of every entry in it; without gradients."""

    def __init__(self, encoder: nn.Module, family: Family, method: Method) -> None:
        self._encoder, self._family, self._method = encoder, family, method
        self._ready: dict[tuple[Route, Span], tuple[Graph, dict[str, Tensor]]] = {}
        self._forms: dict[tuple[Route, Span, bool], str] = {}
        self._banks: dict[str, Bank] = {}
        self._backbone: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(
        self, inputs: Mapping[str, Tensor], route: Route | None, *, start: int, hidden: Tensor | None, stop: int
    ) -> Tensor:
        """Run the encoder over a route, from the tokens or from a hidden state.

        Args:
            inputs: of the encoder, (N,T) each.
            route: over slots; None for the bare backbone.
            start: hidden state that `hidden` holds.
            hidden: (N,T,D), or None for the tokens.
            stop: hidden state to return.

        Returns:
            Hidden state of every token, (N,T,D).

        Raises:
            ConfigError: where torch cannot compile, with what to do.
        """
        route, span = route or Base(), Span(None if hidden is None else start, stop)
        if (route, span) not in self._ready:
            graph = self._graph(route, span)
            self._ready[route, span] = graph, {**self._shared(graph), **self._operands(graph, route)}
        graph, tensors = self._ready[route, span]
        return graph(tensors, {}, None, inputs, hidden)

    @torch.no_grad()
    def by_rows(self, inputs: Mapping[str, Tensor], rows: Sequence[tuple[slice, Route]], *, stop: int) -> Tensor:
        """Run the encoder over a route for each part of a batch, in one pass for those of equal form.

        Args:
            inputs: of the encoder, (N,T) each.
            rows: routes over slots; the parts follow each other and cover the batch.
            stop: hidden state to return.

        Returns:
            Hidden state of every token, (N,T,D).

        Raises:
            ConfigError: where torch cannot compile, with what to do.
        """
        span = Span(None, stop)
        groups: dict[str | Route, list[int]] = {}
        for number, (_, route) in enumerate(rows):
            alike = all(self._method.runs_by_rows(self._encoder, slot) for slot in slots(route))
            groups.setdefault(self._form(route, span, by_rows=True) if alike and slots(route) else route, []).append(
                number
            )
        found: dict[int, Tensor] = {}
        for members in groups.values():
            parts = [rows[number] for number in members]
            own = {name: torch.cat([tensor[part] for part, _ in parts]) for name, tensor in inputs.items()}
            counts = [len(range(*part.indices(len(inputs["input_ids"])))) for part, _ in parts]
            routes = [route for _, route in parts]
            if len(set(routes)) == 1:
                hidden_NTD = self(own, routes[0], start=0, hidden=None, stop=stop)
            else:
                hidden_NTD = self._mixed(own, routes, counts, span)
            found |= dict(zip(members, hidden_NTD.split(counts), strict=True))
        return torch.cat([found[number] for number in range(len(rows))])

    def _mixed(
        self, inputs: Mapping[str, Tensor], routes: Sequence[Route], counts: Sequence[int], span: Span
    ) -> Tensor:
        """One pass over rows of several routes of equal form, so many of each."""
        form = self._form(routes[0], span, by_rows=True)
        graph = self._graph(routes[0], span, by_rows=True)
        bank = self._banks.setdefault(form, Bank())
        if new := [route for route in dict.fromkeys(routes) if route not in bank.places]:
            bank.add({route: self._operands(graph, route) for route in new})
        places = torch.tensor([bank.places[route] for route in routes], device=inputs["input_ids"].device)
        index_N = places.repeat_interleave(torch.tensor(counts, device=places.device))
        return graph(self._shared(graph), bank.tensors, index_N, inputs, None)

    def _graph(self, route: Route, span: Span, *, by_rows: bool = False) -> Graph:
        form = self._form(route, span, by_rows=by_rows)
        if form not in _GRAPHS:
            _GRAPHS[form] = Graph(self._encoder, self._family, self._method, route, span, by_rows=by_rows)
        return _GRAPHS[form]

    def _form(self, route: Route, span: Span, *, by_rows: bool = False) -> str:
        """Digest of all that graphs depend on beside tensors."""
        if (route, span, by_rows) not in self._forms:
            numbers = {slot: f"#{i}" for i, slot in enumerate(slots(route))}
            numbered = transform(route, lambda leaf: Use(entry=numbers[leaf.entry]) if isinstance(leaf, Use) else leaf)
            config: Any = self._encoder.config
            facts = {
                "encoder": [type(self._encoder).__name__, {**config.to_dict(), "_name_or_path": ""}],
                "attention": str(config._attn_implementation),
                "method": self._method.name,
                "span": [span.start, span.stop],
                "route": canonical(numbered),
                "slots": [self._slot_form(slot) for slot in numbers],
                "by_rows": by_rows,
                "backend": BACKEND,
            }
            self._forms[route, span, by_rows] = digest(facts)
        return self._forms[route, span, by_rows]

    def _slot_form(self, slot: str) -> list[Any]:
        tensors = self._method.operands(self._encoder, slot)
        return [
            self._method.form(self._encoder, slot),
            sorted([_renamed(n, slot, ""), t.dim()] for n, t in tensors.items()),
        ]

    def _shared(self, graph: Graph) -> dict[str, Tensor]:
        """The backbone's tensors by their names in a stand-in."""
        if not self._backbone:
            named = ((self._method.backbone_name(name), tensor) for name, tensor in named_tensors(self._encoder))
            self._backbone = {name: tensor.detach() for name, tensor in named if name is not None}
        return {name: self._backbone[plain] for name, plain in graph.backbone.items()}

    def _operands(self, graph: Graph, route: Route) -> dict[str, Tensor]:
        """Tensors of a route's slots by the names of those that stand for them."""
        return {
            _renamed(name, slot, theirs): tensor
            for slot, theirs in zip(slots(route), graph.slots, strict=True)
            for name, tensor in self._method.operands(self._encoder, slot).items()
        }


class Graph:
    """What torch compiled for a form.

    Attributes:
        slots: of the stand-in, in the order of the route.
        backbone: name in the stand-in -> name in the bare backbone, of all tensors that are no slot's.
        num_compiled: graphs so far.
        seconds: that compiling them took, first passes included.
    """

    def __init__(
        self, encoder: nn.Module, family: Family, method: Method, route: Route, span: Span, *, by_rows: bool
    ) -> None:
        twin = _without_weights(encoder)
        method.stand_in(twin, route)
        self.slots = slots(route)
        named = {name: method.backbone_name(name) for name, _ in named_tensors(twin)}
        self.backbone = {f"{_ENCODER}{name}": plain for name, plain in named.items() if plain is not None}
        if by_rows:
            for name, module in twin.named_modules():
                if type(module) is nn.Linear and set(self.slots) & set(name.split(".")):
                    module.__class__ = RowLinear
        self._method, self._pass = method, Pass(twin, family, method, span).eval()
        self.num_compiled, self.seconds = 0, 0.0
        # torch counts graphs, and remembers sizes, by the code of the function
        code = _traced.__code__.replace(co_name=f"pass_{next(_NUMBERS)}")
        own = types.FunctionType(code, _traced.__globals__)
        self._function = torch.compile(own, fullgraph=True, backend=self._backend)

    def __call__(
        self,
        tensors: Mapping[str, Tensor],
        bank: Mapping[str, Tensor],
        index_N: Tensor | None,
        inputs: Mapping[str, Tensor],
        hidden: Tensor | None,
    ) -> Tensor:
        """Run it; compile first where sizes make that necessary.

        Args:
            tensors: of backbone and slots, by their names in the stand-in.
            bank: of entries, (E,…), in the place of the slots' tensors.
            index_N: which entry of the bank each row belongs to.
            inputs: of the encoder, (N,T) each.
            hidden: (N,T,D) to start from, or None.
        """
        inputs = {name: tensor.contiguous() for name, tensor in inputs.items()}
        for tensor in inputs.values():
            _mark(tensor, 0, 1)
        if hidden is not None:
            hidden = hidden.contiguous()
            _mark(hidden, 0, 1)
        if index_N is not None:
            _mark(index_N, 0)
        self._method.before_pass()
        before, began = self.num_compiled, time.perf_counter()
        try:
            output = self._function(self._pass, tensors, bank, index_N, inputs, hidden)
        except Exception as err:
            if (text := _what_to_do(err)) is None:
                raise
            raise ConfigError(text) from err
        if self.num_compiled > before:
            self.seconds += time.perf_counter() - began
        elif not self.num_compiled:
            raise ConfigError(_SWITCHED_OFF)
        return output

    def _backend(self, module: Any, examples: Any) -> Any:
        from torch._dynamo import lookup_backend

        self.num_compiled += 1
        return lookup_backend(BACKEND)(module, examples)


_ENCODER = "encoder."
_SWITCHED_OFF = (
    "torch.compile is switched off in this process, so nothing would be compiled: unset TORCH_COMPILE_DISABLE and "
    "TORCHDYNAMO_DISABLE, or leave --compile out"
)


class Pass(nn.Module):
    """The part of an encoder's forward pass that is compiled."""

    def __init__(self, encoder: nn.Module, family: Family, method: Method, span: Span) -> None:
        super().__init__()
        self.encoder = encoder
        self._family, self._method, self._span = family, method, span

    def forward(self, inputs: Mapping[str, Tensor], hidden: Tensor | None) -> Tensor:
        """Map (N,T), or (N,T,D), to (N,T,D)."""
        start, stop = self._span.start or 0, self._span.stop
        with self._method.context(self.encoder, **inputs):
            return run_layers(self.encoder, self._family, inputs, start=start, hidden=hidden, stop=stop)


class RowLinear(nn.Linear):
    """A linear map whose weight (N,O,I) and bias (N,1,O) are other ones for each row."""

    def forward(self, x_NTI: Tensor) -> Tensor:
        """Map (N,T,I) to (N,T,O)."""
        product = torch.bmm(x_NTI, self.weight.transpose(1, 2))
        return product if self.bias is None else product + self.bias


def _traced(
    stand_in: Pass,
    tensors: Mapping[str, Tensor],
    bank: Mapping[str, Tensor],
    index_N: Tensor | None,
    inputs: Mapping[str, Tensor],
    hidden: Tensor | None,
) -> Tensor:
    """What torch traces; copied for each form."""
    given = dict(tensors)
    if index_N is not None:
        for name, entries in bank.items():
            rows = entries[index_N]
            given[name] = rows.unsqueeze(1) if rows.dim() == 2 else rows
    return torch.func.functional_call(stand_in, given, (inputs, hidden), tie_weights=False)


def _without_weights(encoder: nn.Module) -> Any:
    """A copy that has the form of an encoder and takes no memory."""
    known: dict[int, Any] = {}
    for _, tensor in named_tensors(encoder):
        empty = torch.empty_like(tensor, device="meta")
        known[id(tensor)] = nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(encoder, known)


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors along a new first dimension, the smaller ones filled up with zeros."""
    sizes = [max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors), strict=True)]
    whole = tensors[0].new_zeros(len(tensors), *sizes)
    for own, tensor in zip(whole, tensors, strict=True):
        own[tuple(slice(size) for size in tensor.shape)] = tensor
    return whole


def _mark(tensor: Tensor, *dims: int) -> None:
    """Tell torch that sizes change; of a size of 1 it makes a graph of its own in any case."""
    from torch._dynamo import mark_dynamic

    for dim in dims:
        if tensor.shape[dim] > 1:
            mark_dynamic(tensor, dim)


def _renamed(name: str, slot: str, other: str) -> str:
    """A tensor's name in a stand-in, or with the slot left out."""
    parts = ".".join(other if part == slot else part for part in name.split("."))
    return f"{_ENCODER}{parts}" if other else parts


def _what_to_do(err: Exception) -> str | None:
    """What a person can do about a failure of torch.compile; None for any other error."""
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    if isinstance(err, FailOnRecompileLimitHit):
        return (
            f"torch.compile: {str(err).splitlines()[0]}. Entries of more different sizes came than one form may have "
            "graphs for: raise torch._dynamo.config.recompile_limit, or leave --compile out"
        )
    if "no compiled frames" in str(err):
        return _SWITCHED_OFF
    if not isinstance(err, TorchDynamoException):
        return None
    chain: list[BaseException] = [err]
    while (inner := chain[-1].__cause__ or getattr(chain[-1], "inner_exception", None)) and inner not in chain:
        chain.append(inner)
    names = {type(one).__name__ for one in chain}
    if names & {"InvalidCxxCompiler", "CppCompileError", "FileNotFoundError"}:
        return (
            "torch.compile found no C++ compiler that works here. Install one (Debian, Ubuntu: apt install g++; "
            "Fedora: dnf install gcc-c++; conda: conda install gxx; macOS: xcode-select --install), name another in "
            "CXX, or leave --compile out"
        )
    if "TritonMissing" in names:
        return "torch.compile needs Triton for this GPU: pip install triton, or leave --compile out"
    told = str(chain[-1]).strip().splitlines() or [type(chain[-1]).__name__]
    return f"torch.compile cannot compile this entry's forward pass: {told[0]}. Leave --compile out"
