"""YAML that remembers its lines, read by the rules of YAML 1.2: `off` and `1:30` are text, `1e-3` is a number."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from kubesight.errors import JobError

Keys = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """PyYAML follows YAML 1.1, in which `mixed_precision: off` is False and `1e-3` a text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 0 if text[:2] in ("0x", "0o") else 10)


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:[Tt]rue|TRUE|[Ff]alse|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^(?:<<)$"), ["<"])
_Loader.add_constructor("tag:yaml.org,2002:int", _int)


class YamlFile:
    """A YAML (or JSON) file whose top is a mapping, with the line of every key and item.

    Args:
        path: the file.
        wanted: tells from a document's value whether it is the one meant, in a file that may hold several: the
            first that is wanted, else the first. Without it the file must hold one.

    Attributes:
        value: what it holds: dicts, lists and scalars.
        others: the values of the other documents.

    Raises:
        JobError: it cannot be read, is not YAML, has no mapping at the top, or has a key twice.
    """

    def __init__(self, path: Path | str, wanted: Callable[[Any], bool] | None = None) -> None:
        """Read and check the whole file."""
        self.path = Path(path)
        self.others: list[Any] = []
        self._lines: dict[Keys, int] = {}
        try:
            text = self.path.read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise JobError(error.strerror or str(error), where=str(path), hint="Name a job file.") from error
        except UnicodeDecodeError as error:
            raise JobError(f"not a text in UTF-8: {error}", where=str(path)) from error
        if self.path.suffix == ".json":
            text = text.replace("\t", " ")  # JSON allows tabs between its tokens, YAML does not
        self.value = self._read(text, wanted)

    def _read(self, text: str, wanted: Callable[[Any], bool] | None) -> dict[str, Any]:
        loader: _Loader | None = None
        try:
            loader = _Loader(text)
            node = self._choose(loader, wanted) if wanted else loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                raise JobError("not a job file: there are no keys with values", where=str(self.path))
            self._note_lines(node, (), set())
            return loader.construct_document(node)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f"{self.path}, line {mark.line + 1}" if mark else str(self.path)
            said = " ".join(part for part in (error.context, error.problem) if part)
            raise JobError(f"not YAML: {said}", where=where) from error
        except (yaml.YAMLError, RecursionError) as error:
            raise JobError(f"not YAML: {error}", where=str(self.path)) from error
        finally:
            if loader is not None:
                loader.dispose()

    def _choose(self, loader: _Loader, wanted: Callable[[Any], bool]) -> yaml.Node | None:
        documents: list[tuple[yaml.Node | None, Any]] = []
        while loader.check_node():
            node = loader.get_node()
            documents.append((node, loader.construct_document(node)))
        chosen = next((index for index, (_, value) in enumerate(documents) if wanted(value)), 0)
        self.others = [value for index, (_, value) in enumerate(documents) if index != chosen]
        return documents[chosen][0] if documents else None

    def _note_lines(self, node: yaml.Node, keys: Keys, above: set[int]) -> None:
        if id(node) in above:
            raise JobError("an alias contains itself", where=self.place(keys))
        above = above | {id(node)}
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._lines[(*keys, index)] = item.start_mark.line + 1
                self._note_lines(item, (*keys, index), above)
        elif isinstance(node, yaml.MappingNode):
            for key, item in node.value:
                line = key.start_mark.line + 1
                full = (*keys, str(key.value))
                if full in self._lines and key.value != "<<":
                    raise JobError(
                        f"{key.value} is given twice, first in line {self._lines[full]}",
                        where=f"{self.path}, line {line}",
                        hint="Keep one of them.",
                    )
                self._lines[full] = line
                self._note_lines(item, full, above)

    def line(self, keys: Keys) -> int | None:
        """The line, from 1, of a key or item, or of the nearest one above it that the file has.

        Args:
            keys: the way to it from the top. Parts that the file does not have are passed over.
        """
        known: Keys = ()
        for key in keys:
            for candidate in (key, str(key)):
                if (*known, candidate) in self._lines:
                    known = (*known, candidate)
                    break
        return self._lines.get(known)

    def place(self, keys: Keys) -> str:
        """`job.yaml, line 9`, for messages."""
        line = self.line(keys)
        return str(self.path) if line is None else f"{self.path}, line {line}"
