"""Runs, queues and counts requests: the part of vLLM that its metrics describe."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from .arguments import Options
from .errors import queue_full

_BLOCK = 16
"""Tokens per block of the prefix cache (vLLM's default on GPUs)."""
_MOST_BLOCKS = 65536


class Histogram:
    """A Prometheus histogram in seconds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def lines(self, name: str, model: str) -> list[str]:
        lines, total, labels = [], 0, f'{{engine="0",model_name="{model}"}}'
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{engine="0",le="{bound}",model_name="{model}"}} {float(total)}')
        return [*lines, f"{name}_count{labels} {float(total)}", f"{name}_sum{labels} {self._sum}"]


class PrefixCache:
    """Counts the leading tokens that a prompt shares with an earlier one, in whole blocks."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def hit(self, tokens: Sequence[str]) -> int:
        """Returns the number of cached tokens. The last block is always computed: an answer needs a token."""
        digest, found, missed = 0, 0, False
        for start in range(0, len(tokens) - _BLOCK + 1, _BLOCK):
            digest = hash((digest, *tokens[start : start + _BLOCK]))
            if digest in self._blocks:
                self._blocks.move_to_end(digest)
                if not missed and start + _BLOCK < len(tokens):
                    found += _BLOCK
            else:
                missed = True
                self._blocks[digest] = None
        while len(self._blocks) > _MOST_BLOCKS:
            self._blocks.popitem(last=False)
        return found


class Scheduler:
    """Admits, queues and counts requests within `--max-num-seqs` and `--max-num-queued-reqs`."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._prefixes = PrefixCache() if options.prefix_caching else None
        self.running = 0
        self._unfinished = 0
        self._tokens_held = 0
        self._finished = dict.fromkeys(("stop", "length", "abort", "error", "repetition"), 0)
        self._rejected = self._queries = self._hits = self._prompt_tokens = self._generated = 0
        self._first_token = Histogram(_FIRST_TOKEN_BOUNDS)
        self._whole = Histogram(_WHOLE_BOUNDS)

    @property
    def waiting(self) -> int:
        return sum(not granted.cancelled() for _, granted in self._waiting)

    def check_admission(self, sequences: int) -> None:
        """Raises a 503 if the queue is full. `--max-num-queued-reqs` includes running requests."""
        most = self._options.max_num_queued_reqs
        if most is not None and self._unfinished + sequences > most:
            self._rejected += 1
            raise queue_full()

    def cached_tokens(self, prompt: Sequence[str]) -> int:
        """Looks up a prompt in the prefix cache and counts the query."""
        self._prompt_tokens += len(prompt)
        if self._prefixes is None:
            return 0
        found = self._prefixes.hit(prompt)
        self._queries += len(prompt)
        self._hits += found
        return found

    @asynccontextmanager
    async def run(self, sequences: int, tokens: int) -> AsyncIterator[Run]:
        """Waits for one free slot per sequence and holds the slots. Leaving early counts as an abort."""
        run = Run()
        self._unfinished += sequences
        try:
            slots = min(sequences, self._options.max_num_seqs)
            await self._take(slots)
            self._tokens_held += tokens
            try:
                yield run
            finally:
                self._tokens_held -= tokens
                self._give(slots)
        finally:
            self._unfinished -= sequences
            self._count(run, sequences)

    async def _take(self, slots: int) -> None:
        if not self.waiting and self.running + slots <= self._options.max_num_seqs:
            self.running += slots
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((slots, granted))
        try:
            await granted
        except asyncio.CancelledError:
            # A slot granted at the same moment is handed back; a waiter that gave up is skipped.
            self._give(0 if granted.cancelled() else slots)
            raise

    def _give(self, slots: int) -> None:
        """Frees slots and hands them to waiting requests in order of arrival."""
        self.running -= slots
        while self._waiting:
            wanted, granted = self._waiting[0]
            if not granted.cancelled():
                if self.running + wanted > self._options.max_num_seqs:
                    return
                self.running += wanted
                granted.set_result(None)
            self._waiting.popleft()

    def _count(self, run: Run, sequences: int) -> None:
        self._finished[run.finished or "abort"] += sequences
        self._generated += run.generated
        if run.first_token is not None:
            self._first_token.observe(run.first_token - run.begun)
        if run.finished:
            self._whole.observe(time.monotonic() - run.begun)

    def metrics(self) -> str:
        """Renders /metrics with vLLM's names and labels, as far as a stand-in has values for them."""
        model = self._options.served_names[0]
        capacity = self._options.max_num_seqs * self._options.max_model_len
        lines: list[str] = []

        def add(name: str, kind: str, values: Mapping[str, float]) -> None:
            lines.append(f"# TYPE vllm:{name} {kind}")
            lines.extend(f"vllm:{name}{{{labels}}} {float(value)}" for labels, value in values.items())

        plain = f'engine="0",model_name="{model}"'
        add("num_requests_running", "gauge", {plain: self.running})
        add("num_requests_waiting", "gauge", {plain: self.waiting})
        add("kv_cache_usage_perc", "gauge", {plain: min(1.0, self._tokens_held / capacity)})
        add("prefix_cache_queries_total", "counter", {plain: self._queries})
        add("prefix_cache_hits_total", "counter", {plain: self._hits})
        add("prompt_tokens_total", "counter", {plain: self._prompt_tokens})
        add("generation_tokens_total", "counter", {plain: self._generated})
        reasons = self._finished.items()
        finished = {f'engine="0",finished_reason="{r}",model_name="{model}"': count for r, count in reasons}
        add("request_success_total", "counter", finished)
        rejected = f'model_name="{model}",reason="max_num_queued_reqs"'
        add("admission_rejections_total", "counter", {rejected: self._rejected})
        for name, histogram in (
            ("vllm:time_to_first_token_seconds", self._first_token),
            ("vllm:e2e_request_latency_seconds", self._whole),
        ):
            lines += [f"# TYPE {name} histogram", *histogram.lines(name, model)]
        return "\n".join(lines) + "\n"


class Run:
    """One running request."""

    __slots__ = ("begun", "finished", "first_token", "generated")

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.first_token: float | None = None
        self.generated = 0
        self.finished: str | None = None
        """`stop`, `length` or `error`; None while the request runs."""

    def token(self, sequences: int = 1) -> None:
        if self.first_token is None:
            self.first_token = time.monotonic()
        self.generated += sequences


_FIRST_TOKEN_BOUNDS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
_WHOLE_BOUNDS = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
)  # fmt: skip
