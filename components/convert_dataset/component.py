"""Any annotation format to a data set."""

from kfp import dsl

from kubesight.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def convert_dataset(
    source: str,
    dataset: dsl.Output[dsl.Dataset],
    format: str = "auto",
    task: str = "",
    validation_source: str = "",
    test_source: str = "",
    conversion: str = "{}",
    data_version: str = "",
) -> None:
    """Convert labelled pictures to a kubesight data set.

    Args:
        source: folder, file or URI of the annotations.
        dataset: gets `dataset.json`, `annotations.jsonl` and `report.json`; pictures stay where they are.
        format: folder, coco, voc, csv, jsonl or auto.
        task: image_classification and so on; empty takes what the source says.
        validation_source: annotations of the validation part, when they are apart.
        test_source: annotations of the test part, when they are apart.
        conversion: JSON object of further arguments of `kubesight.convert.convert` (max_dropped, strict,
            check_images, url_prefixes, options).
        data_version: any text; change it when the data changed under the same URI, so that no cached result is used.
    """
    import json

    from kubesight.convert import convert

    converted = convert(
        source,
        dataset.path,
        task=task or None,
        format=format,
        validation_source=validation_source or None,
        test_source=test_source or None,
        **json.loads(conversion),
    )
    info = converted.info
    dataset.metadata.update(task=str(info.task), images=info.counts["images"], classes=len(info.classes))
    dataset.metadata.update(content_hash=info.content_hash, data_version=data_version)
