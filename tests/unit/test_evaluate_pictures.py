"""Finding a picture by what somebody else calls it."""

import pytest

from kubesight.errors import DatasetError
from kubesight.evaluate.pictures import PictureIndex

URLS = [
    "/a/x/01.jpg",
    "/a/y/01.jpg",
    "/a/x/two.png",
    "s3://bucket/three.JPG",
    "file:///a/x/na%20me_4.jpg",
    "/b/2_5.png",
]


@pytest.fixture
def index() -> PictureIndex:
    return PictureIndex(URLS)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("/a/x/01.jpg", URLS[0]),
        ("x/01.jpg", URLS[0]),
        ("C:\\data\\y\\01.jpg", URLS[1]),
        ("elsewhere/two.png", URLS[2]),
        ("three.JPG", URLS[3]),
        ("na me_4.jpg", URLS[4]),
        ("two", None),
        ("three.jpg", None),
        ("", None),
    ],
)
def test_by_the_end_of_a_path(index, name, url) -> None:
    assert index.find(name, "here") == url


@pytest.mark.parametrize(("stem", "url"), [("two", URLS[2]), ("three", URLS[3]), ("na me_4", URLS[4]), ("x/two", None)])
def test_by_the_name_without_its_ending(index, stem, url) -> None:
    assert index.find_stem(stem, "here") == url


@pytest.mark.parametrize(("number", "url"), [(4, URLS[4]), (2, None), (5, None), (99, None)])
def test_by_the_only_number_of_a_name(index, number, url) -> None:
    assert index.find_number(number, "here") == url


def test_what_can_be_several_pictures_is_refused(index) -> None:
    for find, name in ((index.find, "01.jpg"), (index.find_stem, "01"), (index.find_number, 1)):
        with pytest.raises(DatasetError, match=r"here: .*1.* can be 2 pictures of the data set: /a/x/01.jpg, /a/y/01"):
            find(name, "here")


def test_a_picture_that_comes_twice_is_one(index) -> None:
    twice = PictureIndex(["/a/7.jpg", "/a/7.jpg"])
    assert twice.find("7.jpg", "") == twice.find_stem("7", "") == twice.find_number(7, "") == "/a/7.jpg"
    assert twice.rows == {"/a/7.jpg": [0, 1]}
