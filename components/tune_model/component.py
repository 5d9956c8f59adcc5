"""A sweep: many trainings, the best of which is kept."""

from kfp import dsl

from kubesight.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def tune_model(
    training_data: dsl.Input[dsl.Dataset],
    validation_data: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    best_parameters: dsl.Output[dsl.Artifact],
    trials: dsl.Output[dsl.Markdown],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    job: str,
    sweep_folder: str = "",
    engine: str = "",
    image: str = "",
    accelerator: str = "",
    gpus: str = "",
    cpu: str = "",
    memory: str = "",
    node_selector: dict = {},  # noqa: B006
    tolerations: list = [],  # noqa: B006
) -> None:
    """Run a sweep, as a Katib Experiment or on this machine, and keep the best trial's model.

    Args:
        training_data: the training part.
        validation_data: the validation part; the primary metric on it judges trials.
        model: the best trial's model folder.
        best_parameters: JSON object: the `model_name` and the `hyperparameters` that were chosen, as `train_model`
            takes them.
        trials: all trials as a table.
        report: the sweep's page, shown by the Kubeflow UI.
        metrics: those of the best model, and how many trials ended how.
        job: JSON text of a job file without its data; `kubesight compile JOB` writes it.
        sweep_folder: where trials write: on a cluster a folder of a volume that the job names under
            `kubesight.resources.volumes` (empty: `sweeps` in the first of them), here any folder; a sweep that was
            interrupted goes on in it.
        engine: `katib`, `local`, or empty: Katib in a pod of a cluster, else this machine.
        image: the trials' container image; empty is the job's, as with all that follow.
        accelerator: the name of the GPU resource.
        gpus: how many GPUs a trial gets.
        cpu: CPU cores of a trial.
        memory: memory of a trial.
        node_selector: node labels of the pool that trials run on.
        tolerations: taints that the pool's nodes have.
    """
    import json
    import shutil
    from pathlib import Path

    from kubesight.components.summaries import sweep_counts, sweep_markdown
    from kubesight.modelcard import ModelCard
    from kubesight.tune.step import tune

    pool = {"image": image, "accelerator": accelerator, "gpus": gpus, "cpu": cpu, "memory": memory}
    done = tune(
        training_data.path, validation_data.path, job, folder=sweep_folder, scratch=f"{model.path}.sweep",
        run=model.uri, resources=pool | {"node_selector": node_selector, "tolerations": tolerations}, engine=engine,
    )  # fmt: skip
    shutil.copytree(done.model, model.path, dirs_exist_ok=True)
    card = ModelCard.load(model.path)
    model.framework = card.framework
    model.metadata.update(task=str(card.task), model_name=card.model_name, classes=len(card.classes))
    model.metadata.update(experiment=done.name, trial=done.best.name, trial_uri=str(done.model))
    for name, value in {**card.metrics, **sweep_counts(done.trials)}.items():
        metrics.log_metric(name, value)
    chosen = {name: card.hyperparameters[name] for name in done.varied if name in card.hyperparameters}
    best = {"model_name": card.model_name, "hyperparameters": chosen, "assignments": done.best.assignments}
    Path(best_parameters.path).write_text(json.dumps(best, indent=2), encoding="utf-8")
    best_parameters.metadata.update(trial=done.best.name, reason=done.reason)
    Path(trials.path).write_text(sweep_markdown(done.trials, done.best, done.metric, done.reason), encoding="utf-8")
    shutil.copyfile(done.report, report.path)
