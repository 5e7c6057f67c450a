"""The one settings model: what can be set, in which unit, and where each value came from.

Precedence: command-line flags, environment (`MISTUDIO_EXPLAIN_KAFKA__BOOTSTRAP_SERVERS`), the profile of the
configuration file, the file itself, defaults.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource

from mistudio_explain.errors import BadSettings
from mistudio_explain.reporting.formats import AT_THE_END, Format

ENV_PREFIX = "MISTUDIO_EXPLAIN_"
CONFIG_FILE = Path("mistudio-explain.toml")


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _without_password(url: str | None) -> str | None:
    """Refuse an address with a password in it: addresses are logged and shown, what secret files hold is not."""
    try:
        parts = urlsplit(url or "")
    except ValueError:  # no address at all, as whoever uses it will say
        return url
    if parts.password is not None or "password" in parse_qs(parts.query):
        raise ValueError("it holds a password, which logs and error messages would show: put that into a file of its own (password_file, api_key_file)")
    return url


PlainUrl = Annotated[str, AfterValidator(_without_password)]
"""An address without a secret in it."""


class KafkaSettings(_Group):
    """How Kafka is reached, and how topics are made."""

    bootstrap_servers: str | None = Field(default=None, description="host:port, comma-separated; absent: the embedded broker.")
    security_protocol: Literal["PLAINTEXT", "SASL_PLAINTEXT", "SSL", "SASL_SSL"] = Field(default="PLAINTEXT", description="As Kafka names it.")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(default="SCRAM-SHA-256", description="As Kafka names it.")
    sasl_username: str | None = Field(default=None, description="User for SASL.")
    sasl_password_file: Path | None = Field(default=None, description="File whose first line is the password.")
    ssl_cafile: Path | None = Field(default=None, description="CA certificates, PEM; absent: the system's.")
    ssl_certfile: Path | None = Field(default=None, description="Client certificate, PEM.")
    ssl_keyfile: Path | None = Field(default=None, description="Client key, PEM.")
    instance_id: str | None = Field(default=None, description="Stable name of this replica for static group membership.")
    partitions: int = Field(default=6, ge=1, description="Partitions of features, drafts, explanations and the other topics that have several.")
    lane_partitions: int = Field(
        default=12, ge=1, description="Partitions of a lane: a multiple of the generation workers lets all of them drain it at once, to its end."
    )
    replication: int | None = Field(default=None, ge=1, description="Replicas of a topic; absent: 3, or as many as there are brokers.")
    session_timeout_ms: int = Field(default=10_000, ge=1_000, description="After this silence a dead consumer's partitions go to others.")
    max_poll_interval_ms: int = Field(default=300_000, ge=1_000, description="A consumer that takes nothing for so long leaves its group; ours polls in time.")
    metadata_max_age_ms: int = Field(default=2_000, ge=100, description="Delay until a new lane is noticed; 15000 suits a cluster.")
    contract: str | None = Field(
        default=None, description="Release whose schemas events are written in while its services still read (docs/upgrades.md); absent: this version's."
    )
    start_timeout_s: float = Field(default=30.0, ge=0, description="Wait for the broker at start, seconds; 0: services wait for ever, other commands try once.")


MOST_SLOTS = 32


class EndpointSettings(_Group):
    """One LLM server, the unit of placement; with `discover`, as many as there are behind its address."""

    name: str = Field(description="Name in reports and metrics; of discovered servers each has its own, name@address.")
    provider: Literal["ollama", "openai", "anthropic", "demonstration"] = Field(
        description="ollama, openai (any compatible server), anthropic, or the small model that comes along."
    )
    url: PlainUrl | None = Field(default=None, description="Base address; an OpenAI-compatible one ends in /v1; absent for anthropic: its API.")
    discover: Literal["dns", "endpointslices"] | None = Field(
        default=None,
        description="Each server behind the url's host name is an endpoint, also while it runs: by DNS, or by Kubernetes' EndpointSlices of that service.",
    )
    models: tuple[str, ...] | None = Field(default=None, description="Models to use, best first; absent: whatever it lists.")
    slots: int | None = Field(
        default=None, ge=1, le=256, description="Calls in flight at once; absent: what the server tells (llama.cpp), else found while it works, from 2 up."
    )
    max_slots: int = Field(default=MOST_SLOTS, ge=1, le=256, description="Most calls in flight at once where that is found while it works.")
    memory_gb: float | None = Field(default=None, gt=0, description="Memory for models, 10^9 bytes; larger ones are refused. Absent: unknown, none is refused.")
    pinned: tuple[str, ...] = Field(default=(), description="Models that are never unloaded for others, where memory_gb tells that they would be.")
    api_key_file: Path | None = Field(default=None, description="File whose first line is the API key.")
    api_key_env: str | None = Field(
        default=None, description="Variable of the environment that holds the API key; absent for Anthropic's API: ANTHROPIC_API_KEY."
    )
    cloud: bool | None = Field(
        default=None,
        description="Whether it is somebody else's: only a second pass may use it, within its budget; absent: judged by provider and address.",
    )

    @model_validator(mode="after")
    def _discoverable(self) -> Self:
        if self.discover is not None and not (self.url or "").startswith("http://"):
            raise ValueError("discover needs a url that begins with http://: servers are called by their addresses, for which no certificate is made")
        return self


class PriceSettings(_Group):
    """What a model costs, US dollars per million tokens."""

    model: str = Field(description="The model's name; * stands for any text.")
    input: float = Field(ge=0, description="Price of prompt tokens.")
    output: float = Field(ge=0, description="Price of answer tokens.")
    cached: float | None = Field(default=None, ge=0, description="Price of prompt tokens read from the provider's cache; absent: that of any prompt token.")
    as_of: date = Field(description="The day on which this was the price.")
    source: str = Field(default="settings", description="Who says so.")


class LlmSettings(_Group):
    """The explainer models."""

    endpoints: tuple[EndpointSettings, ...] = Field(default=(), description="Absent: an Ollama on this machine, else the demonstration model.")
    temperature: float = Field(default=0.0, ge=0, le=2, description="Sampling temperature; 0 makes answers repeatable.")
    seed: int = Field(default=1, description="Sampling seed.")
    max_tokens: int = Field(default=300, ge=16, le=4096, description="Longest answer, tokens.")
    context_tokens: int = Field(default=4096, ge=512, description="Context length that Ollama loads models with, tokens.")
    first_token_timeout_s: float = Field(default=120.0, gt=0, description="Longest wait for the first token; a model may have to load.")
    token_timeout_s: float = Field(default=30.0, gt=0, description="Longest pause between tokens.")
    deadline_s: float = Field(default=300.0, gt=0, description="Longest time for a whole answer.")
    prices: tuple[PriceSettings, ...] = Field(default=(), description="Prices of models in clouds, before the list that comes along.")
    max_wait_s: float = Field(default=120.0, gt=0, description="Longest wait for a switch of models, where the load allows it: a switch begins at half of it.")


class StoreSettings(_Group):
    """Where the aggregator keeps its rows."""

    url: PlainUrl = Field(
        default="sqlite:///state/explain.db",
        description="sqlite:///relative or sqlite:////absolute path of the file (one machine), or postgresql://user@host/database (fleets).",
    )
    password_file: Path | None = Field(default=None, description="File whose first line is the password of a postgresql:// store.")
    answers: int = Field(default=100_000, ge=0, description="Answers of explainer models kept for reuse, about 2 KB each; those unused for longest go.")


class ReportSettings(_Group):
    """Where reports go."""

    directory: Path = Field(
        default=Path("reports"), description="Files go to <directory>/<explain_job_id>/; s3://bucket/prefix: into a bucket of an S3-compatible store."
    )
    s3_endpoint: PlainUrl | None = Field(default=None, description="Address of that store; absent: AWS_ENDPOINT_URL, else Amazon's.")
    s3_region: str | None = Field(default=None, description="Its region; absent: AWS_REGION, else us-east-1.")
    s3_access_key_id: str | None = Field(default=None, description="Id of the key for it; absent: AWS_ACCESS_KEY_ID, else what the machine is given.")
    s3_secret_key_file: Path | None = Field(default=None, description="File whose first line is the key's secret; absent: AWS_SECRET_ACCESS_KEY.")
    interval_s: float = Field(default=2.0, ge=0.1, description="A job's report event is written at most this often, seconds.")
    formats: tuple[Format, ...] = Field(
        default=AT_THE_END, description="What the aggregator writes of a job that ends: json, html, csv, txt, jsonl, parquet, pdf; `report` writes any of them."
    )

    @property
    def bucket_url(self) -> str | None:
        """`s3://bucket/prefix` when the directory is in a bucket; a path has lost one of the two slashes."""
        return f"s3://{'/'.join(self.directory.parts[1:])}" if self.directory.parts[:1] == ("s3:",) else None


class QualitySettings(_Group):
    """Which features are explained, and when a verdict is given."""

    explain_poor: bool = Field(default=False, description="Explain features whose coherence is below the threshold too.")
    threshold: float = Field(default=0.4, ge=0, le=1, description="Coherence from which features are explained.")
    confirmed_from: float = Field(default=0.55, ge=0, le=1, description="Accuracy from which an explanation is confirmed.")
    contradicted_below: float = Field(default=0.19, ge=0, le=1, description="Accuracy below which it is contradicted.")
    minilm: bool = Field(default=False, description="Compare meanings with MiniLM too (extra `minilm`): sharper, and about 40 ms a feature instead of 3.")
    relevance_policy: Path | None = Field(default=None, description="TOML with the weights of business relevance; absent: the built-in one.")


class ContextSettings(_Group):
    """What the explainer gets to see."""

    max_texts: int = Field(default=12, ge=1, le=100, description="Texts kept as evidence, seen and held out together.")
    held_out_share: float = Field(default=0.3, ge=0, le=0.9, description="Share of the texts kept from the prompt.")
    held_out_from: int = Field(default=8, ge=2, description="Hold texts out only when there are at least this many.")
    prompt_tokens: int = Field(default=1500, ge=128, description="Budget of the prompt, estimated tokens; less where a model is known to take less.")
    template: str | None = Field(default=None, description="Prompt template as name@version; absent: chosen by model and category.")
    templates: Path | None = Field(default=None, description="Directory with further templates.")
    audience: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="For whom explanations are written, such as `an engineer` or `an executive`; absent: as each template says.",
    )
    routing: Path | None = Field(default=None, description="TOML of the routing policy: which models a feature asks for; absent: the built-in one.")


class GenerationSettings(_Group):
    """How the generation service works."""

    in_flight_per_slot: float = Field(default=1.5, ge=1, le=4, description="Records in flight for each LLM slot.")
    attempts: int = Field(default=3, ge=1, le=10, description="Tries of one record before it becomes a dead letter.")
    retry_wait_s: float = Field(default=1.0, ge=0, description="First wait between tries; doubles, with full jitter.")
    candidates: int = Field(
        default=1, ge=1, le=10, description="Answers asked for each feature, each with a seed of its own; the one that fits held-out texts best is taken."
    )
    features_per_call: int = Field(
        default=1, ge=1, le=20, description="Most features that one call explains; what is missing, unusable or swapped in its answer is asked for singly."
    )


class JudgeSettings(_Group):
    """The judge: a second model that tests explanations."""

    enabled: bool = Field(default=False, description="Judge every explanation that is validated; costs up to `calls` model calls a feature.")
    route: tuple[str, ...] = Field(default=(), description="Judge models, best first; absent: any that an endpoint has and that did not write the explanation.")
    kinds: tuple[Literal["detection", "fuzzing"], ...] = Field(
        default=("detection", "fuzzing"), description="detection: which texts fit; fuzzing: which marked words do, where tokens are known."
    )
    positives: int = Field(default=10, ge=1, le=100, description="Texts of the feature shown, at most, evenly over their activation quantiles.")
    randoms: int = Field(default=5, ge=0, le=100, description="Texts of random other features shown for detection.")
    siblings: int = Field(default=5, ge=0, le=100, description="Texts of the nearest other features shown for detection.")
    examples: int = Field(default=5, ge=1, le=20, description="Examples in one call; more confuse small models.")
    calls: int = Field(default=12, ge=1, le=200, description="Most calls for one feature, repeated ones included.")
    attempts: int = Field(default=2, ge=1, le=10, description="Tries of a call whose answer cannot be read.")


class EscalationSettings(_Group):
    """The second pass: the worst outcomes of a job are explained once more by a stronger model."""

    enabled: bool = Field(default=False, description="Make a second pass; validation, generation, escalation and aggregator must all be told.")
    route: tuple[str, ...] = Field(default=(), description="Stronger models, best first; those in a cloud are called only within the caps.")
    accuracy_below: float = Field(default=0.4, ge=0, le=1, description="Explained features with a lower accuracy, or none, are candidates.")
    confidence_below: float = Field(default=0.6, ge=0, le=1, description="Explained features whose verdict is less sure are candidates.")
    share: float = Field(default=0.05, ge=0, le=1, description="Most of a job's features that are sent again; in a cloud never more than 0.05 of them.")
    usd: float = Field(default=1.0, ge=0, le=1e6, description="Most that a job's calls to clouds may cost, US dollars.")
    siblings: int = Field(default=3, ge=0, le=10, description="Nearest other features whose texts the prompt shows as ones on which it does not fire.")


class CostSettings(_Group):
    """What the cost analysis of a report cannot measure; what is absent leaves figures absent."""

    watts: float | None = Field(default=None, gt=0, description="Power of what the models run on, watts; absent: what its GPUs tell.")
    electricity_usd_per_kwh: float | None = Field(default=None, ge=0, description="Price of electricity, US dollars per kilowatt-hour.")
    hardware_usd: float | None = Field(default=None, ge=0, description="Price of the hardware that the models run on, US dollars.")
    features_per_month: float | None = Field(default=None, gt=0, description="Features explained in a month, for the months until it has paid for itself.")
    openai_model: str = Field(default="gpt-4.1", description="OpenAI's model to compare with.")
    anthropic_model: str = Field(default="claude-sonnet-5", description="Anthropic's model to compare with.")


class RetrySettings(_Group):
    """What happens to a record that failed by its own fault, after its inline tries."""

    short_s: float = Field(default=30.0, ge=0, description="Wait in explain.retry.30s before the first redelivery, seconds.")
    long_s: float = Field(default=300.0, ge=0, description="Wait in explain.retry.5m before the second and last one, seconds.")
    dead_letters: int = Field(default=100, ge=1, description="A source partition that gives more dead letters than this within the window is paused.")
    window_s: float = Field(default=60.0, gt=0, description="That window, seconds.")


class JobSettings(_Group):
    """How long jobs are kept."""

    retain_days: float = Field(default=180.0, gt=0, description="A job that nothing was heard of for so long is deleted.")
    deleted_days: float = Field(default=31.0, gt=0, description="The text-free record of a deleted job is kept for so long: longer than any topic's retention.")


class GatewaySettings(_Group):
    """Where and how the gateway answers."""

    host: str = Field(default="127.0.0.1", description="Address to listen on; only programs on this machine reach the default.")
    port: int = Field(default=8350, ge=0, le=65535, description="Port; 0: any that is free.")
    data_root: Path | None = Field(default=None, description="miStudio's data folder, in which results/find/ lies: jobs can then be made by find job id.")
    upload_bytes: int = Field(default=1 << 30, ge=1024, description="Largest file that may be uploaded, bytes.")
    streams: int = Field(default=1000, ge=1, description="Most clients that follow live events at once.")
    body_bytes: int = Field(default=1 << 20, ge=1024, description="Largest body of any other request, bytes.")
    requests_per_s: float = Field(default=50.0, gt=0, description="Requests a second that one API key may make in the long run.")
    requests_at_once: int = Field(default=200, ge=1, description="Requests that one API key may make at once beyond that pace.")
    cors_origins: tuple[str, ...] = Field(
        default=(), description="Origins of other web pages that may call the API, as https://host; none: no page but its own."
    )
    tls_certfile: Path | None = Field(default=None, description="Certificate chain, PEM; with tls_keyfile the gateway speaks TLS itself.")
    tls_keyfile: Path | None = Field(default=None, description="The certificate's key, PEM.")
    behind_tls: bool = Field(default=False, description="Whether people reach it through a proxy that speaks TLS, and only so.")
    session_h: float = Field(default=12.0, gt=0, description="A browser is asked for its API key again after so long, hours.")
    audit_days: float = Field(
        default=400.0, gt=0, description="Entries of the audit log go after so long, days; PCI DSS 4.0 (10.5.1), for one, wants twelve months of them."
    )
    audit_entries: int = Field(default=1_000_000, ge=1, description="Most entries of the audit log; beyond that the oldest go.")
    access_url: PlainUrl | None = Field(
        default=None, description="Where API keys, sessions and the audit log lie, as store.url names places; absent: beside the store, which is best for most."
    )

    @property
    def is_encrypted(self) -> bool:
        """Whether whoever calls it speaks TLS."""
        return self.behind_tls or self.tls_certfile is not None


class ReceiverSettings(_Group):
    """One receiver that is told when a job is at its end."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,60}$", description="Name in lists, logs and metrics.")
    url: PlainUrl = Field(description="Where to send to: https://host/path; http:// only within webhooks.networks.")
    secret_file: Path = Field(description="File whose first line is the secret that messages are signed with: whsec_ and 24 to 64 random bytes in base64.")
    tenant: str = Field(default="default", pattern=r"^[a-z0-9-]{1,40}$", description="The organisation whose jobs it is told of.")


class WebhookSettings(_Group):
    """Who is told when a job is at its end."""

    receivers: tuple[ReceiverSettings, ...] = Field(default=(), description="The receivers; messages go to these addresses alone.")
    networks: tuple[str, ...] = Field(
        default=(), description="Networks (CIDR) that receivers may lie in though their addresses are private, loopback or link-local; none by default."
    )
    ssl_cafile: Path | None = Field(default=None, description="CA certificates of receivers, PEM; absent: the system's.")
    give_up_h: float = Field(default=24.0, gt=0, description="A message that is not accepted for so long is given up, hours.")

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len({each.name for each in self.receivers}) < len(self.receivers):
            raise ValueError("two receivers have the same name")
        return self


class LimitSettings(_Group):
    """Bounds."""

    event_bytes: int = Field(default=1 << 20, ge=1024, description="Largest input event, bytes.")
    internal_bytes: int = Field(default=4 << 20, ge=1024, description="Largest event between stages, bytes.")
    dead_letter_bytes: int = Field(default=8 << 20, ge=1024, description="Largest dead letter, bytes.")
    max_lanes: int = Field(default=64, ge=1, description="Lanes before further target models share one.")
    max_lane_backlog: int = Field(default=20_000, ge=1, description="A lane with more waiting prompts gets no new ones, so that none can expire unread.")
    express_share: float = Field(default=0.3, gt=0, le=1, description="Most of the slots that the express lane takes while other lanes have work.")
    express_features: int = Field(default=100, ge=0, description="Jobs that say they have at most so many features take the express lane.")
    batch_records: int = Field(default=200, ge=1, description="Records a batch stage takes at once.")
    grace_s: float = Field(default=20.0, ge=0, description="What is in flight may take so long to finish when a service is told to stop.")
    quiet_s: float = Field(default=600.0, gt=0, description="Quiet time after which an unsealed job is complete or a sealed one incomplete.")


class TracingSettings(_Group):
    """Where traces go; without an endpoint none are made."""

    endpoint: PlainUrl | None = Field(
        default=None, pattern=r"^https?://", description="Base address of an OTLP/HTTP collector, such as http://127.0.0.1:4318; absent: no traces."
    )
    sample_ratio: float = Field(
        default=1.0, ge=0, le=1, description="Share of features that are traced; a trace that was begun elsewhere says itself whether it is kept."
    )


class Settings(_Group):
    """Everything that can be set."""

    kafka: KafkaSettings = KafkaSettings()
    llm: LlmSettings = LlmSettings()
    store: StoreSettings = StoreSettings()
    reports: ReportSettings = ReportSettings()
    quality: QualitySettings = QualitySettings()
    context: ContextSettings = ContextSettings()
    generation: GenerationSettings = GenerationSettings()
    judge: JudgeSettings = JudgeSettings()
    escalation: EscalationSettings = EscalationSettings()
    cost: CostSettings = CostSettings()
    retry: RetrySettings = RetrySettings()
    jobs: JobSettings = JobSettings()
    gateway: GatewaySettings = GatewaySettings()
    webhooks: WebhookSettings = WebhookSettings()
    limits: LimitSettings = LimitSettings()
    tracing: TracingSettings = TracingSettings()
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least severe log lines shown.")


@dataclass(frozen=True, slots=True)
class Value:
    """A setting's value and where it comes from, for `config show`."""

    name: str
    value: object
    origin: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings together with the layers they were merged from, strongest first."""

    settings: Settings
    layers: tuple[tuple[str, Mapping[str, Any]], ...]

    def values(self) -> Iterator[Value]:
        """Every setting with its origin."""
        yield from self._values(self.settings, ())

    def _values(self, group: BaseModel, path: tuple[str, ...]) -> Iterator[Value]:
        for name, info in type(group).model_fields.items():
            value = getattr(group, name)
            if isinstance(value, _Group):
                yield from self._values(value, (*path, name))
            else:
                yield Value(".".join((*path, name)), value, self._origin((*path, name)), info.description or "")

    def _origin(self, path: tuple[str, ...]) -> str:
        return next((origin for origin, layer in self.layers if _has(layer, path)), "default")


def load(*, config: Path | None = None, profile: str | None = None, flags: Mapping[str, Any] | None = None) -> Loaded:
    """Read the settings from flags, environment and file.

    `config` absent: `mistudio-explain.toml` in the working directory, if there is one. Raises BadSettings, naming
    the setting, its origin and what was expected.
    """
    layers: list[tuple[str, Mapping[str, Any]]] = [("flag", flags or {}), (f"environment {ENV_PREFIX}*", _environment()), *_file_layers(config, profile)]
    merged: dict[str, Any] = {}
    for _, layer in reversed(layers):
        merged = _merge(merged, layer)
    loaded = tuple(layers)
    try:
        return Loaded(Settings.model_validate(merged), loaded)
    except ValidationError as error:
        raise BadSettings(_explain(error, loaded)) from error


def read_secret(path: Path) -> SecretStr:
    """Read the first line of a secret's file."""
    try:
        return SecretStr(path.read_text(encoding="utf-8").splitlines()[0].strip())
    except (OSError, UnicodeDecodeError, IndexError) as error:
        raise BadSettings(f"{path}: the secret cannot be read ({error}); the file's first line must be the secret") from error


def _environment() -> Mapping[str, Any]:
    class Environment(BaseSettings):
        model_config = {"extra": "ignore"}

    for name, info in Settings.model_fields.items():
        Environment.model_fields[name] = info
    source = EnvSettingsSource(Environment, env_prefix=ENV_PREFIX, env_nested_delimiter="__", case_sensitive=False)
    return source()


def _file_layers(config: Path | None, profile: str | None) -> list[tuple[str, Mapping[str, Any]]]:
    path = config or (CONFIG_FILE if CONFIG_FILE.is_file() else None)
    if path is None:
        if profile is not None:
            raise BadSettings(f"profile {profile!r} was asked for, but there is no configuration file; name one with --config")
        return []
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadSettings(f"{path}: cannot be read as TOML: {error}") from error
    profiles = content.pop("profile", {})
    layers: list[tuple[str, Mapping[str, Any]]] = [(f"file {path}", content)]
    if profile is not None:
        if profile not in profiles:
            raise BadSettings(f"{path}: there is no profile {profile!r}; it has {', '.join(sorted(profiles)) or 'none'} (a profile is a table [profile.NAME])")
        layers.insert(0, (f"profile {profile} of {path}", profiles[profile]))
    return layers


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _has(layer: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    here: Any = layer
    for part in path:
        if not isinstance(here, Mapping) or part not in here:
            return False
        here = here[part]
    return True


def _explain(error: ValidationError, layers: tuple[tuple[str, Mapping[str, Any]], ...]) -> str:
    lines = []
    for e in error.errors(include_url=False, include_input=False):
        path = tuple(str(part) for part in e["loc"])
        origin = next((o for o, layer in layers if _has(layer, path)), "the settings")
        lines.append(f"{'.'.join(path)} ({origin}): {e['msg']}")
    return "settings are wrong: " + "; ".join(lines) + ". `mistudio-explain config show` lists every setting."
