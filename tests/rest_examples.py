"""Writes the examples in the description of the REST API anew: `python tests/rest_examples.py`."""

import tempfile
from pathlib import Path

import orjson

from integration.rest_examples import CALLS, asked, gateway_of_examples

EXAMPLES = Path(__file__).parent.parent / "services" / "mistudio_explain" / "gateway" / "examples.json"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, gateway_of_examples(Path(folder)) as gateway:
        description = gateway.get("/openapi.json")
        found = {call.operation: asked(gateway, description, call) for call in CALLS}
    EXAMPLES.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")


if __name__ == "__main__":
    main()
