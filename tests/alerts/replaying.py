"""Puts a recording to the chart's rules, with Debian's promtool."""

import subprocess
import tempfile
from pathlib import Path

import yaml

from alerts.asked import RULES_FILE
from alerts.recording import Recording
from integration.real_prometheus import program


def replay(recording: Recording) -> str | None:
    """What promtool found wrong: an alert that did not fire when it should, or did when it should not; None when nothing."""
    promtool = program("promtool")
    assert promtool is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording.yaml"
        path.write_text(yaml.safe_dump(recording.as_rule_test(RULES_FILE), width=1 << 30, allow_unicode=True))
        done = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stdout + done.stderr
