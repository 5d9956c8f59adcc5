"""A whole sweep as one step of a pipeline: on the cluster that the step runs in, or on this machine."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from kubesight.dataset import Dataset
from kubesight.errors import ClusterError, JobError, ModelError
from kubesight.job import Job
from kubesight.job.form import job_of_form
from kubesight.job.plan import sweep_of
from kubesight.job.sections import Volume
from kubesight.storage.files import atomic_file, read_json, write_json
from kubesight.sweep.curves import read_curves
from kubesight.sweep.names import MODEL_FOLDER
from kubesight.sweep.plan import Sweep
from kubesight.tune.cluster.api import in_cluster
from kubesight.tune.cluster.follow import ClusterResult, name_of_run, run_on_cluster
from kubesight.tune.katib.experiment import read_experiment
from kubesight.tune.katib.render import experiment_of, to_yaml
from kubesight.tune.live import LiveTable
from kubesight.tune.records import EXPERIMENT_FILE, STATUS_FILE, TRIALS_FILE, TRIALS_FOLDER, Trial, best_of, read_trials
from kubesight.tune.report.page import write_report
from kubesight.tune.runner import SweepResult, run_sweep

log = logging.getLogger("kubesight")

ENGINES = ("", "katib", "local")

_FAILURE_FILE = "failure.txt"


@dataclass(frozen=True)
class Tuned:
    """What a sweep leaves to the steps after it.

    Attributes:
        name: the Experiment's.
        best: the best trial.
        trials: all of them, in the order they were made.
        metric: the primary metric.
        varied: the settings that the sweep chose beside the model, by canonical name.
        reason: why the sweep ended.
        model: the best trial's model folder.
        report: the sweep's page.
    """

    name: str
    best: Trial
    trials: list[Trial]
    metric: str
    varied: tuple[str, ...]
    reason: str
    model: Path
    report: Path


def tune(
    training_data: str,
    validation_data: str,
    job: str,
    *,
    folder: str = "",
    scratch: str,
    run: str,
    resources: Mapping[str, Any] | None = None,
    engine: str = "",
) -> Tuned:
    """Run a job's sweep and keep its best model.

    Trials see nothing of a step but what both mount, so on a cluster the two data sets (small: they name their
    pictures by absolute places) are copied to a folder of a volume that the job names, and trials write there.

    Args:
        training_data: the training part.
        validation_data: the validation part; the primary metric on it is what trials are judged by.
        job: JSON text of a job file without its data: task, primary_metric, training_parameters, search_space, sweep,
            limits, and under `kubesight` model, sweep and resources.
        folder: gets the data, the trials and the records. Here: the same folder lets a sweep go on. On a cluster: a
            folder of a volume that the job names (each run gets a folder of its own in it); empty is `sweeps` in the
            first of them.
        scratch: the folder here when `folder` is empty.
        run: what tells this run of the step from all others, but not from its own retries.
        resources: what trials get, in place of what the job says under `kubesight.resources`.
        engine: `katib`, `local`, or empty: Katib in a pod of a cluster, else this machine.

    Raises:
        JobError: the job is none, asks for one training, or the folder holds another sweep.
        ClusterError: the cluster refuses, or the trials could not reach their data or keep their models.
        SystemExit: the sweep was interrupted; it goes on when started again.
    """
    if engine not in ENGINES:
        raise JobError(f"engine is {engine!r}", hint="It is katib, local, or empty to choose by where the step runs.")
    loaded = job_of_form(job, training_data=training_data, validation_data=validation_data, resources=resources)
    sweep = sweep_of(loaded)
    if engine == "katib" or (not engine and in_cluster()):
        volumes = loaded.kubesight.resources.volumes
        sweep = replace(sweep, name=name_of_run(sweep.name or "sweep", run))
        place = _shared_folder(folder, volumes) / str(sweep.name)
        _check_pictures(training_data, volumes)
        document = _document(loaded, sweep, place, training_data, validation_data)
        return _on_cluster(document, sweep, place)
    place = Path(folder or scratch).absolute()
    document = _document(loaded, sweep, place, training_data, validation_data, here=True)
    return _here(document, sweep, place)


def _document(
    job: Job, sweep: Sweep, place: Path, training_data: str, validation_data: str, *, here: bool = False
) -> dict[str, Any]:
    """The Experiment, on copies of the data that stay where they are from one try to the next."""
    data = {"training": training_data, "validation": validation_data}
    for part, source in data.items():
        _keep_data(source, place / "data" / part)
    return experiment_of(
        sweep,
        training_data=str(place / "data" / "training"),
        validation_data=str(place / "data" / "validation"),
        output=str(place / TRIALS_FOLDER),
        weights=job.kubesight.model.weights,
        resources=job.kubesight.resources,
        here=here,
    )


def _keep_data(source: str, target: Path) -> None:
    if target.is_dir():
        if Dataset(source).info.content_hash == Dataset(target).info.content_hash:
            return
        raise JobError("the folder holds a sweep on other data", where=str(target), hint="Name another folder.")
    fresh = target.with_name(f".{target.name}.partial")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(source, fresh)
    fresh.rename(target)


def _shared_folder(folder: str, volumes: Sequence[Volume]) -> Path:
    """The folder that this step and all trials see.

    Raises:
        ClusterError: there is none.
    """
    where = "kubesight.resources.volumes"
    if not volumes:
        raise ClusterError(
            "trials on a cluster run in pods of their own, and no volume is named that they share with this step",
            where=where,
            hint="Name a claim that many pods may mount (ReadWriteMany), such as [{claim: kubesight, path: /data}].",
        )
    place = Path(folder or Path(volumes[0].path) / "sweeps")
    holding = [volume for volume in volumes if place.is_relative_to(volume.path)]
    if not holding:
        paths = ", ".join(volume.path for volume in volumes)
        raise ClusterError(f"the sweep's folder {place} lies on no volume", where=where, hint=f"There are {paths}.")
    if not Path(holding[0].path).is_dir():
        raise ClusterError(
            f"the claim {holding[0].claim} is not mounted at {holding[0].path} in this step",
            where=where,
            hint="`kubesight compile JOB` and `kubesight submit JOB` mount the job's volumes in every step.",
        )
    return place


def _check_pictures(data: str, volumes: Sequence[Volume]) -> None:
    """Warn when pictures lie in a folder that trials do not have, unless their image brings it."""
    url = next((row.image_url for row in Dataset(data).rows()), "")
    path = url.removeprefix("file://")
    if path.startswith("/") and not any(Path(path).is_relative_to(volume.path) for volume in volumes):
        log.warning(
            "%s lies on no volume of kubesight.resources.volumes: trials read it only if their image has it", url
        )


def _on_cluster(document: dict[str, Any], sweep: Sweep, place: Path) -> Tuned:
    """Run the Experiment, unless this run of the step has seen its end already.

    Pipelines try a failed step again: that must not spend the sweep's GPU hours once more.
    """
    name = document["metadata"]["name"]
    if (place / STATUS_FILE).exists():
        log.info("the Experiment %s has ended before; its records are taken", name)
        result = _read_result(name, sweep, place)
    else:
        with atomic_file(place / EXPERIMENT_FILE, "w") as stream:
            stream.write(to_yaml(document))
        trials = place / TRIALS_FOLDER
        trials.mkdir(exist_ok=True)
        # Trials run as another user than this step does, perhaps.
        trials.chmod(0o777)
        result = run_on_cluster(document)
        _write_records(result, sweep.metric, place)
    report = write_report(place)
    if result.error is not None:
        raise result.error
    return _tuned(name, result, sweep, report)


def _read_result(name: str, sweep: Sweep, place: Path) -> ClusterResult:
    trials, status, failure = read_trials(place), read_json(place / STATUS_FILE), place / _FAILURE_FILE
    best = best_of(trials, maximize=sweep.maximize)
    error = ClusterError(failure.read_text(encoding="utf-8")) if failure.exists() else None
    return ClusterResult(name, best, trials, status, "", error)


def _write_records(result: ClusterResult, metric: str, place: Path) -> None:
    """The files that a sweep on this machine writes too; the curves are those that the trials left on the volume."""
    curves = read_curves(place / TRIALS_FOLDER, metric)
    for trial in result.trials:
        trial.folder = str(place / TRIALS_FOLDER / trial.name)
        trial.curve = list(curves.get(trial.name, []))
        trial.epochs = len(trial.curve)
    with atomic_file(place / TRIALS_FILE) as stream:
        for trial in result.trials:
            stream.write(msgspec.json.encode(trial) + b"\n")
    if result.error is not None:
        with atomic_file(place / _FAILURE_FILE, "w") as stream:
            stream.write(str(result.error))
    # Last: it says that the others are there.
    write_json(place / STATUS_FILE, result.status)


def _here(document: dict[str, Any], sweep: Sweep, place: Path) -> Tuned:
    experiment = read_experiment(document)
    with LiveTable(experiment, place) as table:
        result = run_sweep(experiment, place, observer=table)
    if not result.finished:
        raise SystemExit("the sweep was stopped before its end; started again, it goes on")
    report = write_report(place)
    if result.best is None or result.status["conditions"][-1]["type"] == "Failed":
        raise JobError(f"the sweep failed: {_said(result)}", where=str(place), hint=f"{report} shows why.")
    return _tuned(experiment.name, result, sweep, report)


def _tuned(name: str, result: SweepResult | ClusterResult, sweep: Sweep, report: Path) -> Tuned:
    best = result.best
    assert best is not None, "a sweep without a best trial is an error before this"
    model = best.results / MODEL_FOLDER
    if not model.is_dir():
        raise ModelError(
            f"the best trial {best.name} left no model",
            where=str(model),
            hint="On a cluster the claim must allow many pods to write (ReadWriteMany).",
        )
    varied = dict.fromkeys(setting for group in sweep.groups for setting in (*group.fixed, *group.parameters))
    varied.pop("model_name", None)
    return Tuned(name, best, result.trials, sweep.metric, tuple(varied), _said(result), model, report)


def _said(result: SweepResult | ClusterResult) -> str:
    """Why a sweep is over, in a sentence where there is one."""
    return result.status["conditions"][-1].get("message") or result.reason
