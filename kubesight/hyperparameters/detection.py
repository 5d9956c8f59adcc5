"""Rows of Azure AutoML's object detection and instance segmentation; yolov5 shares some of them."""

from kubesight.hyperparameters.spec import (
    BELOW_ONE,
    BOXES,
    DETECTORS,
    POSITIVE,
    RESIZING,
    SEGMENTATION,
    UNIT,
    YOLOV5,
    Case,
    Hyperparameter,
    Needs,
    Origin,
    Range,
    Scope,
)

_OURS: tuple[Origin, ...] = ("kubesight",)
_SWITCH = ("Enable", "Disable")
_TILED = Needs("tile_grid_size")
_INFERENCE = "Kept with the model, where it can be changed later."
_LOW_RESOLUTION = Scope(
    "torchvision/fasterrcnn_mobilenet_v3_large_320_fpn, which is made for small pictures",
    names=frozenset({"torchvision/fasterrcnn_mobilenet_v3_large_320_fpn"}),
)

ROWS = (
    Hyperparameter(
        "validation_metric_type", "choice",
        "Which average precision is computed in validation; none: only the loss.",
        "voc", choices=("none", "coco", "voc", "coco_voc"), applies=BOXES,
        note="The primary metric is VOC's for voc and coco_voc, COCO's AP at an overlap of 0.5 for coco. With none the "
        "epoch of the least validation loss is the best; in the service it is always the last.",
    ),
    Hyperparameter(
        "validation_iou_threshold", "float",
        "Overlap (IoU) from which VOC's metric, precision and recall count a box as found.",
        0.5, (), Range(0.1, 1), applies=BOXES,
        needs=(Needs("validation_metric_type", ("coco", "voc", "coco_voc")),),
        note="The service moves other values into the range; here they are an error, as the page says.",
    ),
    Hyperparameter(
        "min_size", "int", "Pixels that the short side of a picture is resized to, inside the network.",
        600, (), POSITIVE, applies=RESIZING, cases=(Case(_LOW_RESOLUTION, 320),),
    ),
    Hyperparameter(
        "max_size", "int", "Pixels that the long side may have at most after resizing; the short side then gets fewer.",
        1333, (), POSITIVE, applies=RESIZING, cases=(Case(_LOW_RESOLUTION, 640),),
    ),
    Hyperparameter(
        "box_score_threshold", "float", "Boxes with a lower score are left out of predictions.",
        0.3, ("box_score_thresh",), UNIT, cases=(Case(YOLOV5, 0.1),), applies=BOXES,
        note=f"{_INFERENCE} The service also leaves these boxes out before it computes average precision, which is "
        "then too low; here average precision takes in all boxes.",
    ),
    Hyperparameter(
        "nms_iou_threshold", "float", "Overlap (IoU) from which the lower of two boxes is dropped (NMS).",
        0.5, ("nms_iou_thresh", "box_nms_thresh", "box_iou_thresh"), UNIT, applies=BOXES, note=_INFERENCE,
    ),
    Hyperparameter(
        "box_detections_per_image", "int", "How many boxes a picture may get, of all classes together.",
        100, ("box_detections_per_img",), POSITIVE, applies=DETECTORS, note=_INFERENCE,
    ),
    Hyperparameter(
        "log_training_metrics", "choice", "Compute the metrics on the training part too.",
        "Disable", choices=_SWITCH, applies=DETECTORS, note="Not on the page; values and default are the service's.",
    ),
    Hyperparameter(
        "log_validation_loss", "choice", "Compute the loss on the validation part.",
        "Enable", choices=_SWITCH, applies=DETECTORS, note="Not on the page; values and default are the service's.",
    ),
    Hyperparameter(
        "tile_grid_size", "grid", "Columns by rows of the tiles that pictures with small objects are cut into.",
        None, applies=BOXES, note="Azure has it for object detection alone.",
    ),
    Hyperparameter(
        "tile_overlap_ratio", "float", "Share of a tile that overlaps with the next, along each side.",
        0.25, (), BELOW_ONE, applies=BOXES, needs=(_TILED,),
    ),
    Hyperparameter(
        "tile_predictions_nms_threshold", "float", "Overlap (IoU) from which boxes of different tiles are merged.",
        0.25, ("tile_predictions_nms_thresh",), UNIT, applies=BOXES, needs=(_TILED,),
    ),
    Hyperparameter(
        "tile_min_visible_share", "float", "Least share of a box's area inside a tile for it to be learnt there.",
        0.5, (), Range(0, 1, open_low=True), applies=BOXES, needs=(_TILED,), origin=_OURS,
        note="Half: where a tile's edge cuts an object in two, its larger part is learnt and its smaller one is not. "
        "Azure learns every fragment, however small, as if it were the object.",
    ),
    Hyperparameter(
        "random_crop_expand", "bool", "Crop half of the training pictures, or put them on a larger canvas.",
        True, applies=DETECTORS, origin=_OURS,
        note="Azure always does so, unless advanced_settings say otherwise.",
    ),
    Hyperparameter(
        "mask_pixel_score_threshold", "float", "Score from which a pixel belongs to the object.",
        0.5, (), UNIT, applies=SEGMENTATION, note=_INFERENCE,
    ),
    Hyperparameter(
        "max_number_of_polygon_points", "int", "How many points the outline of a mask may have.",
        100, (), POSITIVE, applies=SEGMENTATION, note=_INFERENCE,
    ),
    Hyperparameter(
        "export_as_image", "bool", "Also write masks as pictures.", False, applies=SEGMENTATION, note=_INFERENCE,
    ),
    Hyperparameter(
        "image_type", "choice", "Format of masks written as pictures.",
        "jpg", choices=("jpg", "png", "bmp"), applies=SEGMENTATION, needs=(Needs("export_as_image", (True,)),),
        note="The page writes its default in capitals, JPG; capitals do not matter.",
    ),
)  # fmt: skip
