"""`make test-image`: carries out the steps that build the image, in an empty folder, and starts what they made with nothing but it.

Leaves the image's bill of materials in out/sbom.cdx.json.
"""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from shipping.dockerfile import carry_out, stages
from shipping.licences import locked, normal

ROOT = Path(__file__).parent.parent.parent
OUT = ROOT / "out" / "sbom.cdx.json"
PAIR = {"job": "find_1", "feature": {"feature_id": 5, "top_activations": [{"text": "ships at sea"}]}, "explanation": "names of ships"}


def main() -> None:
    """Build, and say what came out; ends with an error where something is not as it should be."""
    with tempfile.TemporaryDirectory(prefix="mistudio-explain-image-") as folder:
        root = Path(folder)
        build, _ = stages(ROOT / "Dockerfile")
        carry_out(build, ROOT, root)
        made = root / "opt" / "mistudio-explain"
        alone = {"PATH": "/usr/bin:/bin", "HOME": str(root / "nobody")}

        def ours(*arguments: str, given: str = "") -> str:
            program = made / "bin" / "mistudio-explain"
            return subprocess.run([program, *arguments], env=alone, cwd=root, input=given, capture_output=True, text=True, check=True).stdout

        assert "pattern_verification" in json.loads(ours("score", "-", "--out", "-", given=json.dumps(PAIR)))
        assert not (made / "bin" / "pip").exists()
        parts = json.loads((made / "sbom.cdx.json").read_bytes())["components"]
        assert {normal(part["name"]) for part in parts} == {*locked(ROOT / "deploy" / "image.lock"), "mistudio-explain"}
        assert [part["name"] for part in parts if not (part.get("version") and part.get("licenses"))] == []
        OUT.parent.mkdir(exist_ok=True)
        shutil.copy(made / "sbom.cdx.json", OUT)
        size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file() and not path.is_symlink())
        print(f"{ours('--version').strip()}: {len(parts)} packages in its bill of materials ({OUT.relative_to(ROOT)}), {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
