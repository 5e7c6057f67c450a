"""`python -m kube`: builds the programs of a cluster, so that no test has to wait for them."""

import sys

from kube.programs import kube_programs

sys.stdout.write(f"{kube_programs()}\n")
