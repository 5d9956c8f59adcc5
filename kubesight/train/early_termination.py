"""A sweep's policy inside the training that it judges: peers' curves are read from the folders beside its own.

Only here is a policy what the hosted services make of it: asked at every due interval, against running peers too.
Katib's own early stopping fixes one threshold when a trial is made, and looks at it once.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from kubesight.modelcard import CARD_FILE
from kubesight.sweep.curves import CurveReader
from kubesight.sweep.names import DECISIONS_FILE, MODEL_FOLDER
from kubesight.sweep.policies import AnyPolicy, Decision

log = logging.getLogger("kubesight")

GUARD_SECONDS = 60.0
"""How long a training that has said that it stops waits to be told so, that Katib may see it as stopped early."""


class EarlyTermination:
    """Asks a policy about one training.

    Decisions are kept in `decisions.jsonl`, and one that was made before the training was interrupted holds: whichever
    peers have come on since, the resumed training ends where the unbroken one would have.

    Args:
        policy: what decides.
        output: the training's own folder. The folders beside it are those of the sweep's other trials; one with a
            `metrics.jsonl` that holds the metric is a peer, and has finished when its model is there.
        metric: what the sweep maximises; every primary metric is better when greater.
    """

    def __init__(self, policy: AnyPolicy, output: Path, metric: str) -> None:
        """Nothing is read before the first decision."""
        output = output.absolute()
        self.policy = policy
        self.trial = output.name
        self.file = output / DECISIONS_FILE
        self._siblings = CurveReader(output.parent, metric)
        self._recorded: dict[int, dict[str, Any]] | None = None

    def due(self, interval: int) -> bool:
        """Whether the policy is applied after that many reports."""
        return self.policy.due(interval)

    def decide(self, own: Sequence[float]) -> Decision:
        """Judge the training after its last report, and keep what was decided.

        Args:
            own: the values of the metric that it has reported.
        """
        decision = self._decide(own)
        earlier = self._earlier(decision)
        if earlier is not None:
            log.info("%s, decided before: %s", self.trial, earlier)
            return earlier
        record = {"time": _now(), **asdict(decision), "settings": self.policy.model_dump(exclude_none=True)}
        with open(self.file, "ab") as stream:
            stream.write(orjson.dumps(record) + b"\n")
        log.info("%s: %s", self.trial, decision)
        return decision

    def _decide(self, own: Sequence[float]) -> Decision:
        curves = self._siblings.read()
        folder = self.file.parents[1]
        finished = {trial for trial in curves if (folder / trial / MODEL_FOLDER / CARD_FILE).exists()}
        return self.policy.decide(self.trial, {**curves, self.trial: own}, maximize=True, finished=finished)

    def _earlier(self, decision: Decision) -> Decision | None:
        """What the same policy said of the same value at the same interval, before an interruption."""
        if self._recorded is None:
            self._recorded = {record["interval"]: record for record in self._read()}
        found = dict(self._recorded.get(decision.interval, {}))
        same = found.pop("settings", None) == self.policy.model_dump(exclude_none=True)
        if not same or found["value"] != decision.value:
            return None
        del found["time"]
        return Decision(**found)

    def _read(self) -> list[dict[str, Any]]:
        """The decisions in the file. A torn last line, left by a process that was killed, is taken out of it."""
        if not self.file.exists():
            return []
        content = self.file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with open(self.file, "r+b") as stream:
                stream.truncate(len(whole))
        return [orjson.loads(line) for line in whole.splitlines()]


def wait_for_sigterm(asked: Callable[[], bool], *, seconds: float = GUARD_SECONDS) -> None:
    """Wait until SIGTERM has come, but not for ever.

    Katib's collector marks a trial as stopped early when it ends the process itself, at the line with `es_stop=1`; a
    process that ended first would count as finished.

    Args:
        asked: whether it has come.
        seconds: the longest wait.
    """
    end = time.monotonic() + seconds
    while not asked() and time.monotonic() < end:
        time.sleep(0.05)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
