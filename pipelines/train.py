"""From labelled pictures to an evaluated, exported model."""

from kfp import dsl

from kubesight.components import IMAGE, KERAS_IMAGE
from kubesight.components.check_settings import check_settings
from kubesight.components.train_model import train_model
from kubesight.pipelines.steps import judge, on_pool, prepare


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
    keras_image: str = KERAS_IMAGE,
    accelerator: str = "nvidia.com/gpu",
    gpus: str = "0",
    cpu: str = "4",
    memory: str = "16Gi",
    node_selector: dict = {},  # noqa: B006
    tolerations: list = [],  # noqa: B006
) -> None:
    """Check the settings, convert, validate, split, train, evaluate, export.

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
        model_name: a name that `kubesight models` lists, one with a prefix, such as timm/NAME or keras/NAME, or a
            SageMaker model_id.
        weights: default (the library's download), none, or a path or URL.
        primary_metric: what chooses the best epoch, such as AUC_macro; empty is accuracy, iou for multilabel, or
            mean_average_precision for boxes and masks.
        hyperparameters: JSON object of names and values, such as {"number_of_epochs": 5, "learning_rate": 0.01}.
        training_folder: where checkpoints are kept so that a retry goes on; a folder of a mounted volume, or empty.
        image: the container image of every step, with torch.
        keras_image: the one with TensorFlow, for the training, evaluation and export of keras models.
        accelerator: the name of the GPU resource.
        gpus: how many GPUs training gets; "0" trains on CPU.
        cpu: CPU cores for training and evaluation.
        memory: memory for training and evaluation.
        node_selector: node labels of the pool, such as {"pool": "gpu"}.
        tolerations: taints that the pool's nodes have, such as [{"key": "nvidia.com/gpu", "operator": "Exists"}].
    """
    checked = check_settings(
        image=image, keras_image=keras_image, model_name=model_name, hyperparameters=hyperparameters, task=task,
        primary_metric=primary_metric,
    ).set_display_name("Check")  # fmt: skip
    prepared = prepare(
        source=source, format=format, task=task, validation_source=validation_source, test_source=test_source,
        conversion=conversion, data_version=data_version, split_ratio=split_ratio, test_ratio=test_ratio, seed=seed,
    )  # fmt: skip
    prepared.convert.after(checked)
    parts = prepared.split
    trained = train_model(
        training_data=parts.outputs["train"], validation_data=parts.outputs["validation"], model_name=model_name,
        hyperparameters=hyperparameters, weights=weights, primary_metric=primary_metric,
        training_folder=training_folder,
    ).set_display_name("Train")  # fmt: skip
    judged = judge(trained, parts, cpu=cpu, memory=memory)
    for step in (checked, *prepared):
        step.set_container_image(image).set_caching_options(True)
    for step in (trained, *judged):
        step.set_container_image(checked.outputs["training_image"]).set_caching_options(True)
    for step in (trained, judged.evaluate):
        on_pool(step, accelerator, gpus, cpu, memory, node_selector, tolerations)
