"""What a run is asked to train, checked before any data is read; and the image that trains it."""

from typing import NamedTuple

from kfp import dsl

from kubesight.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def check_settings(
    image: str,
    keras_image: str,
    model_name: str = "",
    hyperparameters: str = "{}",
    task: str = "",
    primary_metric: str = "",
    job: str = "",
    engine: str = "",
) -> NamedTuple("Chosen", framework=str, training_image=str):  # type: ignore[valid-type]
    """Fail within seconds on settings that a training or sweep would refuse, and choose its container image.

    Args:
        image: the container image with torch.
        keras_image: the container image with TensorFlow.
        model_name: what a training trains; left out for a sweep.
        hyperparameters: JSON object of names and values, of a training.
        task: image_classification and so on; empty when the data will say it: then what any of the model's tasks
            takes is let through.
        primary_metric: what chooses the best epoch of a training; empty is the task's own.
        job: JSON text of a sweep's job; left out for a training.
        engine: where the sweep runs, as `tune_model` takes it.

    Returns:
        framework: torch or tensorflow, by the model's name.
        training_image: the image to train, evaluate and export in.
    """
    from kubesight.components.settings import chosen_image, frameworks_of_job, frameworks_of_model

    if job:
        frameworks = frameworks_of_job(job)
    else:
        frameworks = frameworks_of_model(model_name, hyperparameters, task=task, primary_metric=primary_metric)
    return chosen_image(frameworks, image, keras_image, engine=engine)
