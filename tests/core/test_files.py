"""Files are replaced as a whole or not at all, with the rights of any new file, and without a copy in memory."""

import os
import subprocess
import sys

import pytest
import torch
from bellmark.agents.core import container
from bellmark.agents.core.files import replacing, write_atomically

PEAK = """
import resource, sys, torch
from bellmark.agents.core import container
tensors = {str(i): torch.ones(25_000_000) for i in range(2)}
container.write(sys.argv[1], {}, {"small": torch.ones(3)})
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
container.write(sys.argv[1], {}, tensors)
print(peak() - before)
"""


def test_what_fails_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(KeyError), replacing(path) as new:
        new.write_bytes(b"new")
        raise KeyError
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]
    with replacing(path) as new:
        new.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o007, 0o660)])
def test_a_checkpoint_may_be_read_by_whom_the_user_lets_read_new_files(tmp_path, mask, mode):
    old = os.umask(mask)
    try:
        container.write(tmp_path / "a.bell", {"some": "JSON"}, {"x": torch.arange(3)})
    finally:
        os.umask(old)
    assert (tmp_path / "a.bell").stat().st_mode & 0o777 == mode
    manifest, tensors = container.read(tmp_path / "a.bell")
    assert manifest == {"some": "JSON"} and tensors["x"].tolist() == [0, 1, 2]


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        container.write(tmp_path / "none" / "a.bell", {}, {"x": torch.ones(1)})


def test_tensors_are_written_from_where_they_are(tmp_path):
    """200 MB, of which no copy is made: a replay buffer may take most of the machine's memory."""
    pytest.importorskip("resource")
    child = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / "a.bell")], capture_output=True, text=True, check=True
    )
    assert int(child.stdout) < 100e6
