"""One training."""

from kfp import dsl

from kubesight.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train_model(
    training_data: dsl.Input[dsl.Dataset],
    validation_data: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    log: dsl.Output[dsl.Markdown],
    model_name: str = "seresnext",
    hyperparameters: str = "{}",
    weights: str = "default",
    primary_metric: str = "",
    training_folder: str = "",
) -> None:
    """Train a model and keep the weights of its best epoch.

    Args:
        training_data: the training part.
        validation_data: the validation part; the primary metric on it chooses the epoch that is kept.
        model: the model folder: `modelcard.json`, `weights.safetensors`, `labels.json`.
        metrics: those of the kept epoch.
        log: the epochs as a table.
        model_name: a name that `kubesight models` lists, or one with a prefix, such as `timm/NAME`.
        hyperparameters: JSON object of names and values; what is missing has its default.
        weights: `default` (the library's download), `none`, or a path or URL.
        primary_metric: what chooses the best epoch; empty is the task's own.
        training_folder: where checkpoints are kept, so that a retry goes on from them: a folder of a mounted volume.
            Empty keeps them beside the model.
    """
    from kubesight.components.training import train_step

    train_step(
        training_data, validation_data, model, metrics, log, model_name=model_name, hyperparameters=hyperparameters,
        weights=weights, primary_metric=primary_metric, training_folder=training_folder,
    )  # fmt: skip
