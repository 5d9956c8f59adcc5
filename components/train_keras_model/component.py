"""One training of a network of keras.applications."""

from kfp import dsl

from kubesight.components import KERAS_IMAGE


@dsl.component(base_image=KERAS_IMAGE, install_kfp_package=False)
def train_keras_model(
    training_data: dsl.Input[dsl.Dataset],
    validation_data: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    log: dsl.Output[dsl.Markdown],
    model_name: str = "keras/MobileNetV2",
    hyperparameters: str = "{}",
    weights: str = "default",
    primary_metric: str = "",
    training_folder: str = "",
) -> None:
    """Train a Keras model on TensorFlow and keep the weights of its best epoch.

    Args:
        training_data: the training part.
        validation_data: the validation part; the metric on it chooses the epoch that is kept.
        model: the model folder: `modelcard.json`, `model.keras`, `saved_model`, and the labels.
        metrics: those of the kept epoch.
        log: the epochs as a table.
        model_name: `keras/NAME` of keras.applications, a friendly name such as `keras/mobilenet-v2-035-96`, or a
            SageMaker model_id.
        hyperparameters: JSON object of names and values, SageMaker's among them; what is missing has its default.
        weights: `default` (those of keras.applications), `none`, a file or URL, or the model folder to go on from.
        primary_metric: what chooses the best epoch; empty is the task's own, or `eval_metric`.
        training_folder: where checkpoints are kept, so that a retry goes on from them: a folder of a mounted volume.
            Empty keeps them beside the model.
    """
    from kubesight.components.training import train_step

    train_step(
        training_data, validation_data, model, metrics, log, model_name=model_name, hyperparameters=hyperparameters,
        weights=weights, primary_metric=primary_metric, training_folder=training_folder,
    )  # fmt: skip
