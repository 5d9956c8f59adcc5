"""A data set into training, validation and test parts."""

from kfp import dsl

from kubesight.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def split_dataset(
    dataset: dsl.Input[dsl.Dataset],
    train: dsl.Output[dsl.Dataset],
    validation: dsl.Output[dsl.Dataset],
    test: dsl.Output[dsl.Dataset],
    split_ratio: float = 0.2,
    test_ratio: float = 0.0,
    seed: int = 0,
) -> None:
    """Divide a data set with the classes in proportion; copies of a picture, and groups, stay together.

    Args:
        dataset: a kubesight data set.
        train: the training part.
        validation: the validation part.
        test: the test part; empty when `test_ratio` is 0 and no row asks for it.
        split_ratio: the validation part's share, in [0, 1).
        test_ratio: the test part's share, in [0, 1).
        seed: of the source of chance.
    """
    import shutil
    import tempfile
    from pathlib import Path

    from kubesight.split import split

    with tempfile.TemporaryDirectory(dir=Path(train.path).parent) as scratch:
        parts = split(dataset.path, scratch, split_ratio=split_ratio, test_ratio=test_ratio, seed=seed)
        for artifact, part in ((train, "train"), (validation, "validation"), (test, "test")):
            shutil.copytree(parts[part].path, artifact.path, dirs_exist_ok=True)
            artifact.metadata.update(part=part, images=len(parts[part]), seed=seed)
            artifact.metadata.update(content_hash=parts[part].info.content_hash)
