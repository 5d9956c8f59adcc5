"""What answers call pictures and classes, and which those are; whatever had to be guessed is said."""

import difflib
from collections import Counter

from kubesight.errors import DatasetError
from kubesight.evaluate.coco_json import Id, id_key
from kubesight.evaluate.object_truth import ObjectTruth
from kubesight.evaluate.pictures import PictureIndex


class Names:
    """From the names in a file of detections to indices of pictures and classes.

    Args:
        truth: the pictures and classes, with the ids that their source gave them.
    """

    def __init__(self, truth: ObjectTruth) -> None:
        """Sort the names."""
        self.truth = truth
        self.remarks: Counter[str] = Counter()
        self._index = PictureIndex(truth.urls)
        self._by_id: dict[str, list[int]] = {}
        for place, key in enumerate(truth.image_ids):
            if key is not None:
                self._by_id.setdefault(id_key(key), []).append(place)
        self._classes = {name: k for k, name in enumerate(truth.classes)}
        self._known_pictures: dict[Id, int] = {}
        self._known_classes: dict[Id, int] = {}

    def picture(self, key: Id, where: str) -> int:
        """The picture of an `image_id`.

        It is what the source called the picture. Where the source has no ids, or not this one, a text is a URL, the
        end of a path or a file name, with or without its ending; a number is the only one in a file's name.

        Raises:
            DatasetError: it is no picture, or can be several.
        """
        if key not in self._known_pictures:
            self._known_pictures[key] = self._find_picture(key, where)
        return self._known_pictures[key]

    def named_picture(self, name: str, where: str) -> int:
        """The picture of a URL, the end of a path, or a file name.

        Raises:
            DatasetError: it is no picture, or can be several.
        """
        url = self._index.find(name, where)
        if url is None:
            raise self._unknown_picture(name, where)
        return self._row(url, name, where)

    def category(self, key: Id, where: str) -> int:
        """The class of a `category_id`: the source's own id, a class's name, or its place in the alphabet from 1.

        Raises:
            DatasetError: it is none.
        """
        if key not in self._known_classes:
            self._known_classes[key] = self._find_category(key, where)
        return self._known_classes[key]

    def named_class(self, name: str, where: str) -> int:
        """The class of this name.

        Raises:
            DatasetError: there is none.
        """
        if name not in self._classes:
            near = difflib.get_close_matches(name, self.truth.classes, n=1, cutoff=0.4)
            hint = f"The nearest is {near[0]!r}." if near else f"They are {self._some_classes()}."
            raise DatasetError(
                f"the class {name!r} is none of the {len(self._classes)} that are known",
                where=where,
                hint=f"{hint} Where a model of ours knows more classes than the data, name it with --model.",
            )
        return self._classes[name]

    def _find_picture(self, key: Id, where: str) -> int:
        rows = self._by_id.get(id_key(key), [])
        if len(rows) == 1:
            return rows[0]
        if rows:
            raise DatasetError(
                f"the image id {key} belongs to {len(rows)} pictures of the data set: {self.truth.urls[rows[0]]}, "
                f"{self.truth.urls[rows[1]]}, ...",
                where=where,
                hint="Its parts count from the same number: evaluate on one part, or name pictures by their files.",
            )
        url = None
        if isinstance(key, str):
            url = self._index.find(key, where) or self._index.find_stem(key, where)
        elif not self._by_id and float(key).is_integer():
            url = self._index.find_number(int(key), where)
            self.remarks["The data have no image ids: numbers were taken for those in the pictures' file names."] = 1
        if url is None:
            raise self._unknown_picture(key, where)
        return self._row(url, key, where)

    def _find_category(self, key: Id, where: str) -> int:
        name = self.truth.categories.get(id_key(key))
        if name is not None:
            return self.named_class(name, where)
        if isinstance(key, str):
            return self.named_class(key, where)
        if self.truth.categories:
            known = ", ".join(f"{each} {name}" for each, name in list(self.truth.categories.items())[:5])
            raise DatasetError(
                f"the category id {key:g} is not one of the data's", where=where, hint=f"Known: {known}."
            )
        if not 1 <= key <= len(self._classes) or not float(key).is_integer():
            raise DatasetError(
                f"the category id {key:g} is not from 1 to {len(self._classes)}",
                where=where,
                hint=f"The data have no ids of classes: give names, or count them from 1: {self._some_classes()}.",
            )
        self.remarks[
            f"The data have no category ids: they were taken as places in the alphabet from 1: {self._some_classes()}."
        ] = 1
        return int(key) - 1

    def _row(self, url: str, name: Id, where: str) -> int:
        rows = self._index.rows[url]
        if len(rows) > 1:
            raise DatasetError(
                f"{name!r} is in the data set {len(rows)} times",
                where=where,
                hint="Keep each picture once: `kubesight convert` merges the lines of a picture.",
            )
        return rows[0]

    def _unknown_picture(self, name: Id, where: str) -> DatasetError:
        known = next((key for key in self.truth.image_ids if key is not None), None)
        example = self.truth.urls[0] if known is None else f"{self.truth.urls[0]} (id {self.truth.image_ids[0]!r})"
        return DatasetError(
            f"{name!r} is no picture of the data set",
            where=where,
            hint=f"A picture of it is {example}. Evaluate on the data set that was predicted.",
        )

    def _some_classes(self) -> str:
        shown = [f"{k} {name}" for k, name in enumerate(self.truth.classes[:5], start=1)]
        return ", ".join(shown) + (", ..." if len(self.truth.classes) > 5 else "")
