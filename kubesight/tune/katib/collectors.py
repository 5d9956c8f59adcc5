"""The metrics collector of an Experiment, checked and with Katib's defaults."""

from kubesight.job.yaml_lines import Keys
from kubesight.tune.katib.checks import check_filters
from kubesight.tune.katib.objects import Collector
from kubesight.tune.katib.source import Source

_KINDS = ("StdOut", "File", "TensorFlowEvent", "Custom", "Push")
_PATHS = {"File": ("File", "/var/log/katib/metrics.log"), "TensorFlowEvent": ("Directory", "/var/log/katib/tfevent/")}


def read_collector(source: Source) -> Collector:
    """What `metricsCollectorSpec` says; StdOut when there is none.

    Raises:
        JobError: what Katib's webhook refuses, and settings that the kind of collector would ignore.
    """
    keys: Keys = ("spec", "metricsCollectorSpec")
    kind = source.get((*keys, "collector", "kind")) or "StdOut"
    if kind == "PrometheusMetric":
        raise source.error((*keys, "collector", "kind"), "Katib has no image for PrometheusMetric", "Use File.")
    if kind not in _KINDS:
        raise source.error((*keys, "collector", "kind"), f"{kind!r} is not one of {', '.join(_KINDS)}")
    if (source.get((*keys, "collector", "customCollector")) is None) == (kind == "Custom"):
        raise source.error((*keys, "collector", "customCollector"), "goes with kind: Custom, and that with it")
    if source.get((*keys, "source", "httpGet")) is not None:
        raise source.error((*keys, "source", "httpGet"), f"a {kind} collector does not use it")
    path, form = _file(source, kind)
    filters = source.get((*keys, "source", "filter", "metricsFormat")) or []
    check_filters(source, (*keys, "source", "filter", "metricsFormat"), filters)
    if form == "JSON" and source.get((*keys, "source", "filter")) is not None:
        raise source.error((*keys, "source", "filter"), "a file of JSON lines has no filter")
    return Collector(kind, path, "JSON" if form == "JSON" else "TEXT", tuple(filters))


def _file(source: Source, kind: str) -> tuple[str | None, str]:
    keys: Keys = ("spec", "metricsCollectorSpec", "source", "fileSystemPath")
    given = source.get(keys)
    expected, default = _PATHS.get(kind, ("", ""))
    if not expected and (given is None or kind != "Custom"):
        if given is not None:
            raise source.error(keys, f"a {kind} collector does not use it", "Did you mean kind: File?")
        return None, "TEXT"
    given = given or {}
    path, found, form = given.get("path") or default, given.get("kind") or expected, given.get("format") or ""
    if not path.startswith("/"):
        raise source.error((*keys, "path"), f"{path!r} is not absolute")
    if found not in ((expected,) if expected else ("File", "Directory")):
        raise source.error((*keys, "kind"), f"{found!r} does not go with a {kind} collector", f"Write {expected}.")
    if form not in (("", "TEXT", "JSON") if kind == "File" else ("",)):
        raise source.error((*keys, "format"), f"{form!r} does not go with a {kind} collector")
    return path, form or "TEXT"
