"""Addresses: paths, file URIs, object stores."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesight.dataset.urls import absolute_url, is_remote, local_path, map_prefix, scheme
from kubesight.errors import DatasetError


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/data/a.jpg", "/data/a.jpg"),
        ("file:///data/a%20b%C3%A9.jpg", "/data/a bé.jpg"),
        ("/data/100%25.jpg", "/data/100%25.jpg"),
        ("file:///data/a#1?.jpg", "/data/a#1?.jpg"),
        ("FILE://localhost/data/a.jpg", "/data/a.jpg"),
        ("file:/data/a.jpg", "/data/a.jpg"),
        ("file:///data/%FF.jpg", "/data/\udcff.jpg"),
        ("C:\\data\\a.jpg", "C:\\data\\a.jpg"),
        ("s3://bucket/a.jpg", None),
        ("minio://bucket/a.jpg", None),
        ("https://host/a.jpg", None),
        ("AmlDatastore://images/a.jpg", None),
    ],
)
def test_local_paths(url: str, path: str | None) -> None:
    assert local_path(url) == (None if path is None else Path(path))
    assert is_remote(url) == (path is None)


def test_a_file_of_another_host_is_refused() -> None:
    for ask in (local_path, lambda url: absolute_url(url, Path("/"))):
        with pytest.raises(DatasetError, match=r"file://server/share/a\.jpg: .*'server'.*three slashes"):
            ask("file://server/share/a.jpg")


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_file_uris_of_any_name_lead_back_to_it(name: str) -> None:
    path = Path("/data") / name.replace("/", "_")
    assert local_path(path.as_uri()) == path
    assert absolute_url(path.as_uri(), Path("/other")) == os.path.normpath(path)


def test_schemes_are_in_lower_case() -> None:
    assert scheme("AzureML://x") == "azureml"
    assert scheme("a/b://c") == ""


def test_absolute_urls(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jpg").touch()
    (tmp_path / "odd\\name.jpg").touch()
    assert absolute_url("sub/a.jpg", tmp_path) == str(tmp_path / "sub" / "a.jpg")
    assert absolute_url("sub\\a.jpg", tmp_path) == str(tmp_path / "sub" / "a.jpg")
    assert absolute_url("odd\\name.jpg", tmp_path) == str(tmp_path / "odd\\name.jpg")
    assert absolute_url("./sub/../sub/a.jpg", tmp_path) == str(tmp_path / "sub" / "a.jpg")
    assert absolute_url("/x/../y.jpg", tmp_path) == "/y.jpg"
    assert absolute_url("file:///x/../y.jpg", tmp_path) == "/y.jpg"
    assert absolute_url("../a.jpg", tmp_path / "sub") == str(tmp_path / "a.jpg")
    assert absolute_url("s3://b/a.jpg", tmp_path) == "s3://b/a.jpg"
    assert absolute_url("file:///x/a%20b.jpg", tmp_path) == "/x/a b.jpg"
    assert Path(absolute_url("a.jpg", Path("rel"))).is_absolute()


def test_the_longest_prefix_is_replaced() -> None:
    table = {"azureml://": "/all", "azureml://d/paths/": "/mnt/d/", "AmlDatastore://images": "s3://bucket/images"}
    assert map_prefix("azureml://d/paths/x/a.jpg", table) == "/mnt/d/x/a.jpg"
    assert map_prefix("azureml://e/a.jpg", table) == "/all/e/a.jpg"
    assert map_prefix("AmlDatastore://images/a.jpg", table) == "s3://bucket/images/a.jpg"
    assert map_prefix("/local/a.jpg", table) == "/local/a.jpg"


def test_a_prefix_ends_where_a_segment_ends() -> None:
    table = {"AmlDatastore://store/paths": "/mnt", "s3://bucket/": "/copy"}
    assert map_prefix("amldatastore://store/paths/x/a.jpg", table) == "/mnt/x/a.jpg"
    assert map_prefix("AmlDatastore://store/paths2/a.jpg", table) == "AmlDatastore://store/paths2/a.jpg"
    assert map_prefix("AmlDatastore://Store/paths/a.jpg", table) == "AmlDatastore://Store/paths/a.jpg"
    assert map_prefix("s3://bucket/a.jpg", table) == "/copy/a.jpg"
    assert map_prefix("AmlDatastore://store/paths", table) == "/mnt"
