"""What settings must be to each other. A setting without effect is an error, not a surprise."""

import logging
from collections.abc import Collection, Mapping
from typing import Any

from kubesight.errors import HyperparameterError
from kubesight.hyperparameters.spec import Hyperparameter, Needs
from kubesight.models.names import find_model

log = logging.getLogger("kubesight")

Rows = Mapping[str, Hyperparameter]
Possible = Mapping[str, tuple[Any, ...]]
Places = Mapping[str, str]

_AT_MOST = (
    ("validation_crop_size", "validation_resize_size", "the cut-out would be larger than the picture"),
    ("min_size", "max_size", "the short side would be longer than the long one may be"),
)  # fmt: skip

_SWITCH_FAMILIES = {
    "apply_automl_train_augmentations": ("fasterrcnn", "retinanet", "fcos", "ssd", "maskrcnn"),
    "apply_mosaic_for_yolo": ("yolov5",),
}

_AUGMENTATIONS = ("horizontal_flip", "random_crop_expand")


def check_needs(rows: Rows, possible: Possible, written: Collection[str], places: Places) -> None:
    """Refuse settings that the others leave without effect.

    One that states its default is let through: published full sets of defaults (SageMaker's `retrieve_default`) do.

    Args:
        rows: the rows that apply, by canonical name.
        possible: the values that each setting may take; one, unless it is swept.
        written: the canonical names that the user wrote.
        places: where they were written.

    Raises:
        HyperparameterError: naming the setting that would have no effect and the one that makes it so.
    """
    for name in written:
        row = rows[name]
        for need in row.needs:
            others = possible.get(need.setting, ())
            if not others or any(need.met_by(value) for value in others):
                continue
            if all(value in (row.default, *row.stated_defaults) for value in possible[name]):
                log.debug("%s has no effect with %s %s", name, need.setting, _listed(others))
                continue
            raise _without_effect(rows, possible, name, need, places.get(name))


def _without_effect(rows: Rows, possible: Possible, name: str, need: Needs, place: str | None) -> HyperparameterError:
    others = possible[need.setting]
    if need.values is None:
        state, mend = f"{need.setting} is not set", f"set {need.setting}"
    else:
        choices = rows[need.setting].choices or need.values
        state = f"{need.setting} is {_listed(others)}"
        mend = f"set {need.setting} to {_listed([value for value in need.values if value in choices])}"
    return HyperparameterError(
        f"{name} is {_listed(possible[name])}, but it has no effect, because {state}",
        where=place,
        hint=f"Remove it, or {mend}.",
    )


def augmentations_off(settings: Mapping[str, Any], written: Collection[str], places: Places) -> dict[str, bool]:
    """What Azure's one switch for all augmentations of a detector means for each of them.

    Args:
        settings: all settings that do not vary.
        written: the canonical names that the user wrote.
        places: where they were written.

    Returns:
        The augmentations that it turns off.

    Raises:
        HyperparameterError: it is off, and one of them is asked for.
    """
    if (settings.get("advanced_settings") or {}).get("apply_automl_train_augmentations", True):
        return {}
    for name in _AUGMENTATIONS:
        if name in written and settings.get(name, True):
            raise HyperparameterError(
                f"{name} is asked for, and apply_automl_train_augmentations of advanced_settings is false",
                where=places.get(name),
                hint=f"Remove one of them; {name} alone turns this augmentation on and off.",
            )
    return dict.fromkeys((name for name in _AUGMENTATIONS if name in settings), False)


def check_together(rows: Rows, possible: Possible, written: Collection[str], places: Places) -> None:
    """Refuse values that contradict each other, whichever of the possible ones are drawn.

    Args:
        rows: the rows that apply, by canonical name.
        possible: the values that each setting may take; one, unless it is swept.
        written: the canonical names that the user wrote.
        places: where they were written.

    Raises:
        HyperparameterError: naming both settings.
    """
    for low, high, why in _AT_MOST:
        if low in rows and max(possible[low]) > min(possible[high]):
            place = next((places[name] for name in (low, high) if name in places), None)
            raise HyperparameterError(
                f"{low} {max(possible[low])} is more than {high} {min(possible[high])}: {why}",
                where=place,
                hint=f"Set {high} to at least {max(possible[low])}.",
            )
    _check_frozen(possible, written, places)
    _check_switches(rows, possible, written, places)
    _check_best_epoch(possible, places)


def _check_frozen(possible: Possible, written: Collection[str], places: Places) -> None:
    """Under a frozen backbone features are cached, of one plain view of each picture unless more are asked for."""
    frozen = possible.get("train_only_top_layer", (False,))
    views = possible.get("feature_views", (1,))
    if max(views) > 1 and True not in frozen and not any(possible["layers_to_freeze"]):
        raise HyperparameterError(
            f"feature_views is {max(views)}, but it has no effect, because the backbone is not frozen",
            where=places.get("feature_views"),
            hint="Remove it, or set train_only_top_layer to true.",
        )
    if False in frozen or max(views) > 1:
        return
    for name, off in (("randaugment_magnitude", 0), ("random_resized_crop_min_scale", 0.08)):
        if name in written and any(value != off for value in possible[name]):
            raise HyperparameterError(
                f"{name} is {_listed(possible[name])}, but it has no effect, because train_only_top_layer is "
                "true and the features of one plain view of each picture are cached",
                where=places.get(name),
                hint="Set feature_views to the number of augmented views to cache, or remove it.",
            )


def _check_switches(rows: Rows, possible: Possible, written: Collection[str], places: Places) -> None:
    """Azure's `advanced_settings` hold switches of single families; some switches change nothing here."""
    if "enable_onnx_normalization" in written and False in possible.get("enable_onnx_normalization", ()):
        log.warning("enable_onnx_normalization: false has no effect: the exported model always normalises by itself")
    if "advanced_settings" not in written:
        return
    place = places.get("advanced_settings")
    for switch in possible["advanced_settings"][0] or {}:
        if switch == "stream_image_files":
            log.warning("%s has no effect: pictures are read where they are, as they are needed", switch)
        elif find_model(str(possible["model_name"][0])).family not in _SWITCH_FAMILIES[switch]:
            raise HyperparameterError(
                f"{switch} of advanced_settings does not apply to {possible['model_name'][0]}: "
                f"it is for {_listed(_SWITCH_FAMILIES[switch])} models",
                where=place,
                hint="Remove it.",
            )


def _check_best_epoch(possible: Possible, places: Places) -> None:
    """Something must tell which epoch is the best."""
    setting = "validation_metric_type"
    if "none" in possible.get(setting, ()) and "Disable" in possible.get("log_validation_loss", ()):
        raise HyperparameterError(
            f"{setting} is none and log_validation_loss is Disable: nothing would tell which epoch is the best",
            where=places.get(setting) or places.get("log_validation_loss"),
            hint=f"Set log_validation_loss to Enable, or {setting} to voc.",
        )


def _listed(values: Collection[Any]) -> str:
    words = [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
