"""What the examples in the description of the REST API are: requests made of a gateway with a certain job, in this order, and its answers."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from integration.aggregating import admitted, explained, failed, requested, reviewed, sealed
from integration.live_gateway import LiveGateway, live_gateway
from mistudio_explain.events.explanation import Answer, Evidence, FeatureOutcome, Subject, TokenChunk
from mistudio_explain.events.feature import Activation
from mistudio_explain.gateway.sse import MEDIA_TYPE
from mistudio_explain.intake.asking import event_of_subject

JOB, FIND_JOB = "explain_1", "find_1"
CODE = Activation(
    text="import numpy as np",
    activation_strength=4.2,
    tokens=["import", " numpy", " as", " np"],
    token_activations=[4.2, 1.1, 0.0, 0.3],
)
UPLOAD = {
    "job_metadata": {"job_id": "find_2", "model_name": "gpt2-small", "total_features": 1},
    "features": [
        {
            "feature_id": 5,
            "coherence_score": 0.8,
            "pattern_keywords": ["import", "numpy"],
            "top_activations": [{"text": "import numpy as np", "activation_strength": 4.2}, {"text": "from pathlib import Path", "activation_strength": 3.9}],
        }
    ],
}


@dataclass(frozen=True)
class Call:
    """A request of the examples."""

    operation: str
    path: dict[str, str] = field(default_factory=dict)
    query: dict[str, Any] = field(default_factory=dict)
    body: Any = None
    filled: str | None = None
    """A list in the answer that is asked for until something is in it."""
    until: str | None = None
    """Of a stream of events: the event that its example ends with."""
    meanwhile: Callable[[LiveGateway, dict[str, Any]], None] | None = None
    """What happens once the first event of a stream has come, which is given."""


def _review(gateway: LiveGateway, _: dict[str, Any]) -> None:
    gateway.write(reviewed("layer 1/349", job=JOB))


def _answer(gateway: LiveGateway, start: dict[str, Any]) -> None:
    """Say in the services' place what a model says of the feature that was asked about."""
    subject = Subject(explain_job_id=start["explain_job_id"], find_job_id=FIND_JOB, target_model="gpt2-small", feature_id="5", feature_key=start["feature_key"])
    outcome = _imports(explained("5", subject.explain_job_id, says="Import statements of Python modules."))
    told = outcome.model_copy(update={"subject": subject, "generation": None, "prompt_sha256": None})
    gateway.write(
        *(TokenChunk(event_id=event_of_subject(subject), index=i, text=text) for i, text in enumerate(("Import statements", " of Python modules."))), told
    )


CALLS = (
    Call("livez"),
    Call("readyz"),
    Call("metrics"),
    Call("list_jobs", query={"limit": 10}),
    Call("show_job", {"job": JOB}),
    Call("list_explanations", {"job": JOB}, {"verdict": ["confirmed"], "quality_from": 0.5, "text": "python imp", "order": "quality", "descending": True}),
    Call("search_explanations", query={"category": ["technical"], "limit": 2}),
    Call("count_explanations", {"job": JOB}, {"text": "python"}),
    Call("show_feature", {"job": JOB, "feature": "layer 1~348"}),
    Call("show_history", {"job": JOB, "feature": "layer 1~348"}),
    Call(
        "review_feature", {"job": JOB, "feature": "layer 1~348"}, body={"verdict": "partly", "corrected": "Imports of numpy.", "who": "ada", "why": "too wide"}
    ),
    Call("list_reviews", {"job": JOB}, filled="reviews"),
    Call("list_files", {"job": JOB}),
    Call("read_file", {"job": JOB, "name": "explanations.csv"}),
    Call("follow_job", {"job": JOB}, until="end"),
    Call("follow_jobs", until="progress", meanwhile=_review),
    Call("explain_now", body={"feature": UPLOAD["features"][0], "find_job": FIND_JOB, "target_model": "gpt2-small"}, until="outcome", meanwhile=_answer),
    Call("rescore_job", {"job": JOB}, body={"every": True}),
    Call("replay_job", {"job": JOB}, body={"where": "quality<0.8", "route": "llama3.1:70b", "new_job": "explain_1_again"}),
    Call("cancel_job", {"job": "explain_1_again"}, body={"why": "wrong model"}),
    Call("delete_job", {"job": "explain_1_again"}, {"why": "not needed"}),
    Call("create_job", body={"find_job_id": "find_2"}),
    Call("upload_job", query={"explain_poor": True}, body=UPLOAD),
    Call("show_models"),
    Call("show_lag"),
    Call("show_webhooks"),
    Call("show_session"),
    Call("open_session", body={"key": "mse_..."}),
    Call("close_session"),
    Call("show_audit", query={"limit": 1}),
)
_STEADY: dict[str, Any] = {
    "sha256": "0" * 64,
    "size": 1234,
    "wall_s": 12.5,
    "seconds": 12.5,
    "prompt_sha256": "0" * 64,
    "as_of": {"0": 3},
    "validator_version": 6,
}
_MOMENT_MS = 1_764_057_600_000
_ID = "5e1f09c3.4-0-2.17-9-12"
_ASKED, _ASK = re.compile(r"_ask_\d{8}_\d{6}_[0-9a-f]{8}"), "_ask_20251125_080000_1a2b3c4d"


@contextmanager
def gateway_of_examples(folder: Path) -> Iterator[LiveGateway]:
    """A gateway with the job that the examples are of."""
    demonstration = {"endpoints": [{"name": "demonstration", "provider": "demonstration"}]}
    with live_gateway(folder, gateway={"data_root": str(folder / "data")}, llm=demonstration) as gateway:
        _prepare(gateway)
        yield gateway


def _prepare(gateway: LiveGateway) -> None:
    root = gateway.settings.gateway.data_root
    assert root is not None
    (root / "results" / "find").mkdir(parents=True)
    (root / "results" / "find" / "find_2_results.json").write_bytes(orjson.dumps(UPLOAD))
    features = ("layer 1/348", "layer 1/349", "layer 2/7")
    imports = _imports(explained(features[0], says="Import statements of Python modules."))
    gateway.write(requested(), *(admitted(feature) for feature in features), imports, explained(features[1]), failed(features[2]), sealed(3))
    gateway.until(lambda: gateway.get("/jobs")["total"] and gateway.get(f"/jobs/{JOB}")["status"] == "completed")
    gateway.until(lambda: any(file["sha256"] for file in gateway.get(f"/jobs/{JOB}/files")["files"]))


def _imports(outcome: FeatureOutcome) -> FeatureOutcome:
    answer = Answer(label="Python imports", pattern=outcome.explanation or "")
    subject = outcome.subject.model_copy(update={"feature_id": "348", "source_id": "layer 1", "keywords": ["import", "numpy"]})
    return outcome.model_copy(update={"answer": answer, "evidence": Evidence(seen=[CODE]), "subject": subject})


def asked(gateway: LiveGateway, description: dict[str, Any], call: Call) -> dict[str, Any]:
    """Make a request, and give it with its answer as an example."""
    path, method = next(
        (path, method) for path, methods in description["paths"].items() for method, operation in methods.items() if operation["operationId"] == call.operation
    )
    for name, value in call.path.items():
        path = path.replace(f"{{{name}}}", quote(value, safe="~"))

    def answered() -> httpx.Response:
        return gateway.client.request(method.upper(), path, params=call.query, json=call.body)

    if call.until is not None:
        return _streamed(gateway, method.upper(), f"{path}", call)
    answer = answered() if call.filled is None else gateway.until(lambda: given if (given := answered()).json()[call.filled] else None)
    told: dict[str, Any] = {"status": answer.status_code}
    told |= {"path": call.path} if call.path else {}
    told |= {"query": call.query} if call.query else {}
    told |= {} if call.body is None else {"body": call.body}
    if answer.headers.get("content-type") == "application/json":
        told["answer"] = steady(answer.json(), str(gateway.settings.reports.directory.parent))
    elif answer.content and call.operation not in ("metrics", "read_file"):
        told["answer"] = answer.text
    return told


def _streamed(gateway: LiveGateway, method: str, path: str, call: Call) -> dict[str, Any]:
    """Follow a stream up to an event; of several `progress` the last one stands, as each takes the place of the one before."""
    events: dict[str, str] = {}
    answer: Any = None
    with gateway.client.stream(method, path, params=call.query, json=call.body, headers={"accept": MEDIA_TYPE}) as response:
        name, block = "", ""
        for line in response.iter_lines():
            said, _, value = line.partition(": ")
            if said == "id":
                block += f"id: {_ID}\n"
            elif said == "event":
                name, block = value, f"{block}event: {value}\n"
            elif said == "data":
                content = orjson.loads(value)
                if not events and call.meanwhile is not None:
                    call.meanwhile(gateway, content)
                answer = steady(content, str(gateway.settings.reports.directory.parent))
                events[name if name == "progress" else f"{name} {len(events)}"] = f"{block}data: {orjson.dumps(answer).decode()}\n\n"
                if name == call.until and _is_over(call, content):
                    break
            elif not line:
                name, block = "", ""
    told: dict[str, Any] = {"status": response.status_code, "events": "".join(events.values())}
    told |= {"path": call.path} if call.path else {}
    return told | ({} if call.body is None else {"body": call.body, "answer": answer})


def _is_over(call: Call, content: Any) -> bool:
    """Whether an event is the one that was waited for: of those of all jobs the one that counts the second review."""
    return call.operation != "follow_jobs" or content["reviewed"] == 2


def steady(content: Any, folder: str, name: str = "") -> Any:
    """An answer without what differs from run to run."""
    if name in _STEADY and type(content) is type(_STEADY[name]):
        return _STEADY[name]
    if name.endswith("_ms") and content is not None:
        return _MOMENT_MS
    if isinstance(content, dict):
        return {key: steady(value, folder, key) for key, value in content.items()}
    if isinstance(content, list):
        return [steady(value, folder, name) for value in content]
    return _ASKED.sub(_ASK, content.replace(f"{folder}/", "")) if isinstance(content, str) else content
