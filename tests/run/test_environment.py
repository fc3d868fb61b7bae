"""What a record says of the machine it was made on."""

import os
import subprocess
import sys

CODE = """
import torch
from grasp_bench.run.environment import describe
print(describe(torch.device("cpu")).cpu_instructions)
"""


def test_the_instructions_are_those_that_torch_uses_and_not_all_that_the_processor_has() -> None:
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "default"}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "DEFAULT"
