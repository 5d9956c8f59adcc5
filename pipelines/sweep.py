"""From labelled pictures to the best of many models, evaluated and exported."""

from kfp import dsl

from kubesight.components import IMAGE, KERAS_IMAGE
from kubesight.components.check_settings import check_settings
from kubesight.components.tune_model import tune_model
from kubesight.pipelines.steps import RETRIES, judge, on_pool, prepare


@dsl.pipeline(name="kubesight-sweep", display_name="kubesight: sweep")
def sweep_pipeline(
    source: str,
    job: str,
    task: str = "",
    format: str = "auto",
    validation_source: str = "",
    test_source: str = "",
    conversion: str = "{}",
    data_version: str = "",
    split_ratio: float = 0.2,
    test_ratio: float = 0.0,
    seed: int = 0,
    sweep_folder: str = "",
    engine: str = "",
    image: str = IMAGE,
    keras_image: str = KERAS_IMAGE,
    accelerator: str = "nvidia.com/gpu",
    gpus: str = "1",
    cpu: str = "4",
    memory: str = "16Gi",
    node_selector: dict = {},  # noqa: B006
    tolerations: list = [],  # noqa: B006
) -> None:
    """Check the settings, convert, validate, split once, sweep, evaluate the best model, export it.

    Args:
        source: where the labelled pictures are: a folder, an annotation file, or their URI.
        job: JSON text of a job file without its data: task, primary_metric, training_parameters, search_space, sweep,
            limits, kubesight.
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
        sweep_folder: a folder of a volume that the job names under kubesight.resources.volumes, where trials write;
            empty is "sweeps" in the first of them.
        engine: katib, local, or empty: Katib on a cluster.
        image: the container image of every step and of every trial, with torch.
        keras_image: the one with TensorFlow, for the sweep of keras models, its trials, and what follows it.
        accelerator: the name of the GPU resource.
        gpus: how many GPUs a trial gets, and the evaluation; "0" is CPU.
        cpu: CPU cores of a trial and of the evaluation.
        memory: memory of a trial and of the evaluation.
        node_selector: node labels of the pool, such as {"pool": "gpu"}.
        tolerations: taints that the pool's nodes have, such as [{"key": "nvidia.com/gpu", "operator": "Exists"}].
    """
    checked = check_settings(image=image, keras_image=keras_image, job=job, engine=engine).set_display_name("Check")
    prepared = prepare(
        source=source, format=format, task=task, validation_source=validation_source, test_source=test_source,
        conversion=conversion, data_version=data_version, split_ratio=split_ratio, test_ratio=test_ratio, seed=seed,
    )  # fmt: skip
    prepared.convert.after(checked)
    parts = prepared.split
    training_image = checked.outputs["training_image"]
    tuned = tune_model(
        training_data=parts.outputs["train"], validation_data=parts.outputs["validation"], job=job,
        sweep_folder=sweep_folder, engine=engine, image=training_image, accelerator=accelerator, gpus=gpus, cpu=cpu,
        memory=memory, node_selector=node_selector, tolerations=tolerations,
    ).set_display_name("Sweep")  # fmt: skip
    # The step only follows an Experiment, whose trials have the GPUs; it is tried again because it then finds it again.
    tuned.set_cpu_limit("1").set_memory_limit("4Gi")
    tuned.set_retry(RETRIES, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s")
    judged = judge(tuned, parts, cpu=cpu, memory=memory)
    for step in (checked, *prepared):
        step.set_container_image(image).set_caching_options(True)
    for step in (tuned, *judged):
        step.set_container_image(training_image).set_caching_options(True)
    on_pool(judged.evaluate, accelerator, gpus, cpu, memory, node_selector, tolerations)
