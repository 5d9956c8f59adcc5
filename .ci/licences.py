"""Refuse packages that Apache-2.0 software cannot ship with: AGPL in any form, and GPL without an alternative.

Reads the output of `pip-licenses --from=all --format=json` on standard input.
"""

import json
import re
import sys


def offends(licence: str) -> bool:
    """Whether a licence expression, or a list of classifiers, leaves only the GPL, or names the AGPL."""
    if re.search(r"\bAGPL|Affero", licence, re.IGNORECASE):
        return True
    choices = re.split(r"\bOR\b|;|,", licence)
    return all(re.search(r"(?<!L)GPL|(?<!Lesser )General Public License", choice) for choice in choices)


def main() -> None:
    """Print the offenders and fail when there is one."""
    packages = json.load(sys.stdin)
    found = []
    for package in packages:
        stated = [package[key] for key in ("License-Expression", "License-Classifier", "License-Metadata")]
        stated = [text for text in stated if text not in ("UNKNOWN", "")]
        if any("AGPL" in text for text in stated) or (stated and all(offends(text) for text in stated)):
            found.append(f"{package['Name']} {package['Version']}: {' / '.join(stated)[:200]}")
    print("\n".join([f"licences: {len(packages)} packages looked at, {len(found)} refused", *found]))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
