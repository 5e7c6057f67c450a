"""`make test-image`: carries out the steps that build the image, in an empty folder, and starts what they made with nothing but it."""

import json
import subprocess
import tempfile
from pathlib import Path

from shipping.dockerfile import carry_out, stages

ROOT = Path(__file__).parent.parent.parent


def main() -> None:
    """Build, and say what came out; ends with an error where something is not as it should be."""
    with tempfile.TemporaryDirectory(prefix="mistudio-explain-image-") as folder:
        root = Path(folder)
        build, _ = stages(ROOT / "Dockerfile")
        carry_out(build, ROOT, root)
        made = root / "opt" / "mistudio-explain"
        alone = {"PATH": "/usr/bin:/bin", "HOME": str(root / "nobody")}
        version = subprocess.run([made / "bin" / "mistudio-explain", "--version"], env=alone, cwd=root, capture_output=True, text=True, check=True).stdout
        parts = json.loads((made / "sbom.cdx.json").read_bytes())["components"]
        assert {"aiokafka", "faststream", "pydantic"} <= {part["name"] for part in parts}
        size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file() and not path.is_symlink())
        print(f"{version.strip()}: {len(parts)} packages in its bill of materials, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
