"""From labelled pictures to an evaluated, exported model."""

from kfp import dsl, kubernetes

from kubesight.components import IMAGE
from kubesight.components.convert_dataset import convert_dataset
from kubesight.components.evaluate_model import evaluate_model
from kubesight.components.export_model import export_model
from kubesight.components.split_dataset import split_dataset
from kubesight.components.train_model import train_model
from kubesight.components.validate_dataset import validate_dataset

RETRIES = 2
"""Times that a step on the GPU pool is tried again: nodes of such pools are often taken away."""


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


@dsl.pipeline(name="kubesight-train", display_name="kubesight: train")
def train_pipeline(
    source: str,
    task: str = "",
    format: str = "auto",
    validation_source: str = "",
    test_source: str = "",
    conversion: str = "{}",
    data_version: str = "",
    split_ratio: float = 0.2,
    test_ratio: float = 0.0,
    seed: int = 0,
    model_name: str = "seresnext",
    weights: str = "default",
    primary_metric: str = "",
    hyperparameters: str = "{}",
    training_folder: str = "",
    image: str = IMAGE,
    accelerator: str = "nvidia.com/gpu",
    gpus: str = "0",
    cpu: str = "4",
    memory: str = "16Gi",
    node_selector: dict = {},  # noqa: B006
    tolerations: list = [],  # noqa: B006
) -> None:
    """Convert, validate, split, train, evaluate, export.

    Args:
        source: where the labelled pictures are: a folder, an annotation file, or their URI.
        task: image_classification, image_classification_multilabel, image_object_detection or
            image_instance_segmentation; empty takes what the source says.
        format: folder, coco, voc, csv, jsonl or auto.
        validation_source: labelled pictures of the validation part, when they are apart from source.
        test_source: labelled pictures of the test part, when they are apart from source.
        conversion: JSON object of further arguments of the conversion, such as {"max_dropped": 0.1}.
        data_version: any text; change it when the data changed under the same URI.
        split_ratio: the validation part's share of the pictures, when it has no source of its own.
        test_ratio: the test part's share of the pictures, when it has no source of its own.
        seed: of the split.
        model_name: a name that `kubesight models` lists, or one with a prefix, such as timm/NAME.
        weights: default (the library's download), none, or a path or URL.
        primary_metric: what chooses the best epoch, such as AUC_macro; empty is accuracy, iou for multilabel, or
            mean_average_precision for boxes and masks.
        hyperparameters: JSON object of names and values, such as {"number_of_epochs": 5, "learning_rate": 0.01}.
        training_folder: where checkpoints are kept so that a retry goes on; a folder of a mounted volume, or empty.
        image: the container image of every step.
        accelerator: the name of the GPU resource.
        gpus: how many GPUs training gets; "0" trains on CPU.
        cpu: CPU cores for training and evaluation.
        memory: memory for training and evaluation.
        node_selector: node labels of the pool, such as {"pool": "gpu"}.
        tolerations: taints that the pool's nodes have, such as [{"key": "nvidia.com/gpu", "operator": "Exists"}].
    """
    converted = convert_dataset(
        source=source, format=format, task=task, validation_source=validation_source, test_source=test_source,
        conversion=conversion, data_version=data_version,
    ).set_display_name("Convert")  # fmt: skip
    data = converted.outputs["dataset"]
    validated = validate_dataset(dataset=data).set_display_name("Validate")
    parts = split_dataset(dataset=data, split_ratio=split_ratio, test_ratio=test_ratio, seed=seed)
    parts.set_display_name("Split").after(validated)
    trained = train_model(
        training_data=parts.outputs["train"], validation_data=parts.outputs["validation"], model_name=model_name,
        hyperparameters=hyperparameters, weights=weights, primary_metric=primary_metric,
        training_folder=training_folder,
    ).set_display_name("Train")  # fmt: skip
    evaluated = evaluate_model(
        model=trained.outputs["model"],
        validation_data=parts.outputs["validation"],
        test_data=parts.outputs["test"],
    ).set_display_name("Evaluate")
    exported = export_model(model=trained.outputs["model"], data=parts.outputs["validation"]).after(evaluated)
    exported.set_display_name("Export").set_cpu_limit(cpu).set_memory_limit(memory)
    for step in (converted, validated, parts, trained, evaluated, exported):
        step.set_container_image(image).set_caching_options(True)
    for step in (trained, evaluated):
        on_pool(step, accelerator, gpus, cpu, memory, node_selector, tolerations)
