"""Schedules, optimisers and metric lines against their published definitions."""

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from torch import nn

from kubesight.errors import HyperparameterError, ModelError
from kubesight.train.metric_log import MetricLog, metric_line
from kubesight.train.optimizer import make_optimizer, set_learning_rate
from kubesight.train.precision import autocast_type
from kubesight.train.schedule import learning_rate_factor
from kubesight.train.seeds import seed_torch

COSINE = {
    "learning_rate_scheduler": "warmup_cosine",
    "warmup_cosine_lr_cycles": 0.45,
    "warmup_cosine_lr_warmup_epochs": 2,
    "number_of_epochs": 15,
}


def test_warmup_cosine_starts_at_nothing_peaks_after_warm_up_and_ends_at_two_percent() -> None:
    factors = [learning_rate_factor(COSINE, step=step, steps_per_epoch=10) for step in range(150)]
    assert factors[0] == 0
    assert factors[10] == pytest.approx(0.5)
    assert factors[20] == 1
    assert max(factors) == 1
    assert factors[85] == pytest.approx(0.5 * (1 + math.cos(2 * math.pi * 0.45 * 65 / 130)))
    assert learning_rate_factor(COSINE, step=150, steps_per_epoch=10) == pytest.approx(0.0245, abs=1e-4)
    full = {**COSINE, "warmup_cosine_lr_cycles": 1.0}
    assert learning_rate_factor(full, step=150, steps_per_epoch=10) == pytest.approx(1)
    none = {**COSINE, "warmup_cosine_lr_warmup_epochs": 0}
    assert learning_rate_factor(none, step=0, steps_per_epoch=10) == 1


def test_a_constant_rate_stays_as_it_is() -> None:
    settings = {**COSINE, "learning_rate_scheduler": "constant"}
    assert {learning_rate_factor(settings, step=step, steps_per_epoch=10) for step in range(150)} == {1.0}


def test_the_step_schedule_is_that_of_torch() -> None:
    settings = {"learning_rate_scheduler": "step", "step_lr_gamma": 0.3, "step_lr_step_size": 4}
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    truth = torch.optim.lr_scheduler.StepLR(optimizer, 4, 0.3)
    for epoch in range(13):
        for step in (0, 6):
            factor = learning_rate_factor(settings, step=epoch * 7 + step, steps_per_epoch=7)
            assert factor == pytest.approx(truth.get_last_lr()[0])
        optimizer.step()
        truth.step()


SETTINGS: dict[str, Any] = {
    "weight_decay": 0.1,
    "momentum": 0.8,
    "nesterov": True,
    "beta1": 0.7,
    "beta2": 0.95,
    "ams_gradient": True,
}


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("sgd", torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
        ("adam", torch.optim.Adam, {"betas": (0.7, 0.95), "amsgrad": True}),
        ("adamw", torch.optim.AdamW, {"betas": (0.7, 0.95), "amsgrad": True}),
    ],
)
def test_each_optimizer_takes_its_settings(name: str, kind: type, expected: dict[str, Any]) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    module[2].bias.requires_grad_(False)
    optimizer = make_optimizer(module, {**SETTINGS, "optimizer": name}, learning_rate=0.5)
    assert type(optimizer) is kind
    for group in optimizer.param_groups:
        assert group["lr"] == 0.5
        assert {key: group[key] for key in expected} == expected
    decayed, plain = optimizer.param_groups
    assert decayed["weight_decay"] == 0.1
    assert {id(p) for p in decayed["params"]} == {id(module[0].weight), id(module[2].weight)}
    assert plain["weight_decay"] == 0
    assert id(module[2].bias) not in {id(p) for p in plain["params"]}
    set_learning_rate(optimizer, 0.25)
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}


def test_nesterov_needs_momentum() -> None:
    settings = {**SETTINGS, "optimizer": "sgd", "momentum": 0.0}
    assert not make_optimizer(nn.Linear(1, 1), settings, learning_rate=1).param_groups[0]["nesterov"]


def test_a_metric_line_is_what_a_collector_reads() -> None:
    moment = datetime(2026, 1, 2, 15, 4, 5, 123456, tzinfo=UTC)
    line = metric_line(
        3, {"accuracy": 0.912, "tiny": 9.8e-5, "none": math.nan, "big": math.inf, "one": 1.0, "zero": 0.0}, now=moment
    )
    assert line == "2026-01-02T15:04:05.123456Z epoch=3 accuracy=0.912 tiny=0.000098 one=1 zero=0"
    with pytest.raises(ModelError, match="f1 score"):
        metric_line(0, {"f1 score": 1.0})


def test_the_history_is_cut_back_to_what_the_checkpoint_knows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = tmp_path / "metrics.jsonl"
    history.write_text('{"epoch": 0}\n{"epoch": 1}\n{"epo')
    log = MetricLog(history, None, [{"epoch": 0}])
    log.append({"epoch": 1, "accuracy": 0.5, "seconds": 2.0})
    assert [orjson.loads(line) for line in history.read_bytes().splitlines()] == [
        {"epoch": 0},
        {"epoch": 1, "accuracy": 0.5, "seconds": 2.0},
    ]
    assert capsys.readouterr().out.endswith("Z epoch=1 accuracy=0.5\n")
    MetricLog(history, tmp_path / "new" / "lines.log", []).append({"epoch": 0, "iou": 0.25})
    assert (tmp_path / "new" / "lines.log").read_text().endswith("Z epoch=0 iou=0.25\n")


def test_precision_follows_the_device() -> None:
    cpu = torch.device("cpu")
    assert autocast_type("auto", cpu) is None
    assert autocast_type("off", cpu) is None
    assert autocast_type("bf16", cpu) is torch.bfloat16
    with pytest.raises(HyperparameterError, match="fp16"):
        autocast_type("fp16", cpu)


def test_seeding_draws_what_torch_draws_and_keeps_nothing() -> None:
    torch.manual_seed(2**63)
    expected = torch.rand(5)
    waiting = len(torch.cuda._queued_calls)
    seed_torch(2**63, torch.device("cpu"))
    assert torch.equal(torch.rand(5), expected)
    assert len(torch.cuda._queued_calls) == waiting
