"""What the pipelines share: the steps before a model and those after it, and where steps run."""

from typing import NamedTuple

from kfp import dsl, kubernetes

from kubesight.components.convert_dataset import convert_dataset
from kubesight.components.evaluate_model import evaluate_model
from kubesight.components.export_model import export_model
from kubesight.components.split_dataset import split_dataset
from kubesight.components.validate_dataset import validate_dataset

RETRIES = 2
"""Times that a step on the GPU pool is tried again: nodes of such pools are often taken away."""


class Prepared(NamedTuple):
    """The steps from labelled pictures to parts; `split` has the outputs train, validation and test."""

    convert: dsl.PipelineTask
    validate: dsl.PipelineTask
    split: dsl.PipelineTask


class Judged(NamedTuple):
    """The steps after a model is there."""

    evaluate: dsl.PipelineTask
    export: dsl.PipelineTask


def prepare(
    *,
    source: str,
    format: str,
    task: str,
    validation_source: str,
    test_source: str,
    conversion: str,
    data_version: str,
    split_ratio: float,
    test_ratio: float,
    seed: int,
) -> Prepared:
    """Convert, validate, split; the arguments are those of the pipelines."""
    converted = convert_dataset(
        source=source, format=format, task=task, validation_source=validation_source, test_source=test_source,
        conversion=conversion, data_version=data_version,
    ).set_display_name("Convert")  # fmt: skip
    data = converted.outputs["dataset"]
    validated = validate_dataset(dataset=data).set_display_name("Validate")
    parts = split_dataset(dataset=data, split_ratio=split_ratio, test_ratio=test_ratio, seed=seed)
    parts.set_display_name("Split").after(validated)
    return Prepared(converted, validated, parts)


def judge(trained: dsl.PipelineTask, parts: dsl.PipelineTask, *, cpu: str, memory: str) -> Judged:
    """Evaluate the model on the test part (the validation part when there is none), and export it."""
    evaluated = evaluate_model(
        model=trained.outputs["model"],
        validation_data=parts.outputs["validation"],
        test_data=parts.outputs["test"],
    ).set_display_name("Evaluate")
    exported = export_model(model=trained.outputs["model"], data=parts.outputs["validation"]).after(evaluated)
    exported.set_display_name("Export").set_cpu_limit(cpu).set_memory_limit(memory)
    return Judged(evaluated, exported)


def on_pool(
    task: dsl.PipelineTask,
    accelerator: str,
    gpus: str,
    cpu: str,
    memory: str,
    node_selector: dict,
    tolerations: list,
) -> dsl.PipelineTask:
    """Send a step to the pool that the run's form names.

    The counts are strings because the backend reads numbers given at run time as "none"; "0" GPUs means a CPU node.
    Loader processes hand pictures over in /dev/shm, which is 64 MB unless something is mounted there.
    """
    task.set_accelerator_type(accelerator).set_accelerator_limit(gpus)
    task.set_cpu_limit(cpu).set_memory_limit(memory)
    task.set_retry(RETRIES, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s")
    kubernetes.add_node_selector_json(task, node_selector)
    kubernetes.add_toleration_json(task, tolerations)
    kubernetes.empty_dir_mount(task, "dshm", "/dev/shm", medium="Memory", size_limit="8Gi")
    return task
