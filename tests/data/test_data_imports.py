"""What reading images may load."""

import subprocess
import sys

PROGRAM = """
import sys
from geovq.config import DataConfig
from geovq.data import load
load(DataConfig("digits")).train.images(slice(0, 4))
print(sorted({"torch", "pooch", "requests"} & set(sys.modules)))
"""


def test_neither_torch_nor_a_network_library_is_imported():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
