"""The check of what is installed beside this package."""

import importlib.util
from pathlib import Path

import pytest

_FILE = Path(__file__).parents[2] / ".ci" / "licences.py"
_SPEC = importlib.util.spec_from_file_location("licences", _FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
licences = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(licences)


@pytest.mark.parametrize(
    ("licence", "refused"),
    [
        ("Apache-2.0", False),
        ("BSD-3-Clause AND MIT", False),
        ("AGPL-3.0-only", True),
        ("GNU Affero General Public License v3", True),
        ("AGPL-3.0 OR MIT", True),
        ("GPL-3.0-or-later", True),
        ("GNU General Public License v2 or later (GPLv2+)", True),
        ("GPL-2.0 OR MIT", False),
        ("GNU General Public License (GPL); MIT License", False),
        ("LGPL-2.1", False),
        ("GNU Lesser General Public License v3 (LGPLv3)", False),
    ],
)
def test_agpl_and_plain_gpl_are_refused(licence: str, refused: bool) -> None:
    assert licences.offends(licence) is refused
