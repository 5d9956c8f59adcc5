"""How much memory a training may still take, by what the kernel says of the machine and of the container."""

from pathlib import Path

import pytest

from kubesight.train.memory import free_memory

MIB = 2**20
MEMINFO = f"MemTotal:  {900 * 1024} kB\nMemFree:  {10 * 1024} kB\nMemAvailable:  {500 * 1024} kB\nHugePages_Total: 0\n"


def write(root: Path, files: dict[str, object]) -> None:
    for name, content in {"proc/meminfo": MEMINFO, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(content))


def second_version(limit: object) -> dict[str, object]:
    """Of 300 MiB in use, 100 are files that the kernel may drop."""
    group = "sys/fs/cgroup/memory"
    return {f"{group}.max": limit, f"{group}.current": 300 * MIB, f"{group}.stat": f"anon 5\ninactive_file {100 * MIB}"}


def first_version(limit: int) -> dict[str, object]:
    group = "sys/fs/cgroup/memory/memory"
    return {
        f"{group}.limit_in_bytes": limit,
        f"{group}.usage_in_bytes": 300 * MIB,
        f"{group}.stat": f"inactive_file 1\ntotal_inactive_file {100 * MIB}",
    }


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 500),
        (second_version("max"), 500),
        (second_version(400 * MIB), 400 - (300 - 100)),
        (second_version(100 * MIB), 0),
        (second_version(2000 * MIB), 500),
        (first_version(450 * MIB), 450 - (300 - 100)),
        (first_version(2**63 - 4096), 500),
    ],
)
def test_the_machine_or_the_containers_limit_whichever_leaves_less(tmp_path, files, expected):
    write(tmp_path, files)
    assert free_memory(tmp_path) == expected * MIB


def test_a_system_that_says_nothing_is_taken_to_have_half_of_its_memory_free(tmp_path):
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert free_memory(tmp_path) == pytest.approx(total / 2, rel=0.01)


def test_this_machine_has_some():
    assert 0 < free_memory() < 2**50
