"""Whatever is wrong with an Experiment is an error that the user can act on, never a crash."""

import copy
import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubesight.errors import JobError
from kubesight.tune.katib.experiment import read_experiment
from kubesight.tune.katib.template import trial_command
from kubesight.tune.sampling.sampler import Sampler

EXPERIMENTS = sorted((Path(__file__).parents[1] / "experiments").glob("*.yaml"))
DOCUMENTS = [next(yaml.safe_load_all(path.read_text())) for path in EXPERIMENTS]
MISSING = object()
ODD = [
    *(None, "", "x", "0", "-1", "nan", "1e400", "\0", "${trialParameters.lr}", True, 0, -1, 10**30, 1.5, float("inf")),
    *([], {}, ["x"], [None], [[]], {"x": 1}, {"x": None}, {"name": 1}, MISSING),
]


def ways(value: Any, way: tuple = ()) -> Iterator[tuple]:
    """The ways to everything in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*way, key)
        yield from ways(item, (*way, key))


@st.composite
def damaged(draw: st.DrawFn) -> dict:
    document = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 2))):
        way = draw(st.sampled_from(list(ways(document))))
        place = document
        for key in way[:-1]:
            place = place[key]
        value = draw(st.sampled_from(ODD))
        if value is MISSING:
            del place[way[-1]]
        else:
            place[way[-1]] = copy.deepcopy(value)
    return document


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damaged())
def test_damage_is_an_error_or_no_harm(document: dict) -> None:
    logging.disable(logging.WARNING)
    with suppress(JobError):
        experiment = read_experiment(document)
        assignments = Sampler(experiment).ask(0)
        manifest = experiment.template.render("trial-1", "default", assignments)
        assert trial_command(manifest, experiment.template.primary_container).argv
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("text", ["", "- a\n", "a: [\n", "---\n---\n", "kind: Experiment\nkind: Job\n", "\x00"])
def test_files_that_hold_no_experiment(text: str, tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(text)
    with pytest.raises(JobError, match=r"experiment\.yaml"):
        read_experiment(path)
    with pytest.raises(JobError, match="No such file"):
        read_experiment(tmp_path / "missing.yaml")
