"""A trained model as ONNX."""

from kfp import dsl

from kubesight.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def export_model(
    model: dsl.Input[dsl.Model],
    data: dsl.Input[dsl.Dataset],
    exported: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    samples: int = 32,
) -> None:
    """Add `model.onnx` to a model folder, checked against the trained model on real pictures.

    Args:
        model: the model folder.
        data: a data set whose pictures the two are compared on.
        exported: the same folder with `model.onnx`, and the agreement in its card.
        metrics: the agreement's numbers.
        samples: how many pictures are compared.
    """
    import shutil

    from kubesight.export.onnx import export

    shutil.copytree(model.path, exported.path, dirs_exist_ok=True)
    record = export(exported.path, data=data.path, samples=samples)
    exported.metadata.update(model.metadata)
    exported.framework = model.metadata.get("framework", "")
    for name, value in record.items():
        if isinstance(value, (int, float)):
            metrics.log_metric(name, value)
