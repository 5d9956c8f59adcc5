"""Names that Experiments and trainings of a sweep share, beside Katib's own fields."""

LIMITS_ANNOTATION = "kubesight/limits"
"""JSON of the limits that Katib has no field for; see `kubesight.sweep.limits`."""

CONDITIONS_ANNOTATION = "kubesight/conditions"
"""JSON: for each parameter that counts only in some groups, those values of `group`."""

SPACE_ANNOTATION = "kubesight/automatic-space"
"""The version of the automatic space (`kubesight.sweep.automatic`) that the parameters come from."""

GROUP_PARAMETER = "group"
"""The categorical parameter that chooses one group of a conditional space: "0", "1", ..."""

STOP_METRIC = "es_stop"
"""A training that a policy has stopped prints this metric as 1."""

MODEL_FOLDER = "model"
"""In its output folder, the finished model of a training."""

CACHE_FILE = "cache.json"
"""In its output folder, how often a training found frozen features and decoded pictures ready (`..._hits`) or not."""

DECISIONS_FILE = "decisions.jsonl"
"""In its output folder, every decision of a policy that a training has asked about itself, one a line."""
