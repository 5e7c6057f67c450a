"""The programs of a cluster, built from their Go modules, once for each user and state of `go/`."""

import hashlib
import os
import shutil
from pathlib import Path

from integration.components import require
from integration.local_server import CACHE, locked, run_command

KUBERNETES = "1.37.2"
"""As go.mod has it; the API server tells it to clients."""
_MODULE = Path(__file__).parent / "go"
_MADE_OF = ("go.mod", "go.sum", "main.go")
_PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "endpointslices": ".",
}
_TOLD = "k8s.io/component-base/version"


def kube_programs() -> Path:
    """The folder with etcd, kube-apiserver, kubeconform and endpointslices. The first time takes about 13 minutes of CPU and 5 GB of disk."""
    if shutil.which("go") is None:
        require("Go", "install version 1.26 or newer; it builds the Kubernetes API server")
    state = hashlib.sha256(b"".join((_MODULE / name).read_bytes() for name in _MADE_OF)).hexdigest()[:8]
    programs = CACHE / "kube" / state
    with locked(CACHE / "kube" / "lock"):
        if not programs.is_dir():
            made = programs.with_suffix(".part")
            major, minor, _ = KUBERNETES.split(".")
            version = f"-X {_TOLD}.gitVersion=v{KUBERNETES} -X {_TOLD}.gitMajor={major} -X {_TOLD}.gitMinor={minor}"
            for name, package in _PACKAGES.items():  # nice: for minutes it would take every core
                build = ("go", "build", "-C", str(_MODULE), "-trimpath", f"-ldflags=-s -w {version}", "-o", str(made / name), package)
                run_command("nice", "-n", "15", *build, env={**os.environ, "CGO_ENABLED": "0"})
            made.rename(programs)
    return programs
