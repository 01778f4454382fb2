"""kill -9 at any moment loses at most the running epoch, and what is left goes on to the bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DRILL = Path(__file__).with_name("kill_drill.py")
METHODS = ["none", "ours", "absgd", "two-phase", "hu", "meta-weight-net", "tau-norm", "ensemble"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the drill forks")
@pytest.mark.parametrize("method", METHODS)
def test_twenty_kills(method, tmp_path):
    command = [sys.executable, "-W", "ignore", str(DRILL), method, "20", str(tmp_path), "0"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout.splitlines()[-1])
    print(method, found)
    assert found["kills"] >= 20
    assert found["lost more than an epoch"] == 0
    assert found["equal"] == found["finished"] >= 2
    assert found["moved"] >= 5  # kills came while epochs were under way
