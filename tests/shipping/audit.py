"""`make audit`: asks pip-audit whether a locked package has a known vulnerability, and says so where nobody can be asked.

    python -m shipping.audit [LOCK...]

Exit codes: 0 nothing known, 1 something known, 3 not checked. A service that answers nothing at all looks to pip-audit like one
that knows of nothing, so each service is first asked about a release whose vulnerability is known, and believed only when it tells.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LOCKS = (ROOT / "requirements.lock", ROOT / "deploy" / "tools.lock")  # the image's lock is a part of the first
SERVICES: tuple[tuple[str, ...], ...] = (("-s", "pypi"), ("-s", "osv"))
KNOWN = "jinja2==2.10"  # CVE-2019-10906
FOUND, NOT_CHECKED = 1, 3


def asked(service: Sequence[str], locks: Sequence[Path]) -> subprocess.CompletedProcess[str]:
    """Ask one service about everything in the locks; `--strict` fails on whatever it does not know."""
    files = [argument for lock in locks for argument in ("-r", str(lock))]
    command = [sys.executable, "-m", "pip_audit", "--strict", "--no-deps", "--disable-pip", "--progress-spinner", "off", "--timeout", "10", *service, *files]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def tells(service: Sequence[str], folder: Path) -> str | None:
    """Why a service cannot be believed; None when it knows what is known."""
    known = folder / "known.txt"
    known.write_text(f"{KNOWN}\n")
    done = asked(service, [known])
    if done.returncode == FOUND and "jinja2" in done.stdout:
        return None
    if done.returncode == 0:
        return f"it does not know of the vulnerability of {KNOWN}"
    said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return said[-1].removeprefix("ERROR:pip_audit._cli:") if said else f"pip-audit ended with {done.returncode}"


def audit(services: Sequence[Sequence[str]], locks: Sequence[Path]) -> int:
    """Ask the first service that can be believed; the exit code."""
    reasons = []
    with tempfile.TemporaryDirectory() as folder:
        for service in services:
            reason = tells(service, Path(folder))
            if reason is None:
                done = asked(service, locks)
                print(done.stdout + done.stderr, end="")
                return done.returncode
            reasons.append(f"  {' '.join(service)}: {reason}")
    print("VULNERABILITIES WERE NOT CHECKED: no service that knows them can be asked from here. Nothing is said about the locked packages.")
    print("\n".join(reasons))
    print("Run `make audit` where PyPI's or OSV's data can be reached.")
    return NOT_CHECKED


if __name__ == "__main__":
    sys.exit(audit(SERVICES, [Path(each) for each in sys.argv[1:]] or LOCKS))
