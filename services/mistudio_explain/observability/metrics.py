"""Every metric of the product, each declared once with its meaning."""

from collections.abc import Mapping

from prometheus_client import Counter, Gauge, Histogram

# The specification's, with exactly its labels.
MODEL_REQUESTS = Counter("mistudio_explain_model_requests", "Calls of an explainer model that gave a usable answer.", ["model_name"])
DURATION = Histogram(
    "mistudio_explain_duration_seconds", "Time of one explainer call, from sending to the end of the answer.", ["model_name"],
    buckets=(0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300),
)  # fmt: skip
QUALITY = Histogram("mistudio_explain_quality_score", "Quality score of explained features.", ["model_name"], buckets=tuple(i / 20 for i in range(1, 21)))

GPU_MEMORY = Gauge(
    "mistudio_explain_gpu_memory_bytes",
    "Memory in use on a GPU, by all models that endpoints of this process serve on its machine.",
    ["gpu_device", "model_name"],
)

# Ours.
GPU_UTILISATION = Gauge("mistudio_explain_gpu_utilisation", "Share of the time in which a GPU worked, 0 to 1, as its driver samples it.", ["gpu_device"])
GPU_POWER = Gauge("mistudio_explain_gpu_power_watts", "Power that a GPU draws.", ["gpu_device"])
EVENTS_IN = Counter("mistudio_explain_events_in", "Records that a service has taken from Kafka. Flat while lag grows: the service hangs or holds.", ["service"])
EVENTS_OUT = Counter("mistudio_explain_events_out", "Records that were published and confirmed.", ["topic"])
IN_FLIGHT = Gauge("mistudio_explain_in_flight", "Records being worked on now.", ["service"])
DEAD_LETTERS = Counter("mistudio_explain_dead_letters", "Records given up. Any increase wants a look at `explain.dlq`.", ["service", "error"])
RETRIES = Counter("mistudio_explain_retries", "Records sent to a retry topic. Rising without outcomes: a fault that repeats.", ["service", "error"])
EXPIRED = Counter("mistudio_explain_expired_records", "Records that retention removed before they were read: lost work. Never expected.", ["service", "topic"])
PAUSED = Gauge("mistudio_explain_paused_partitions", "Source partitions paused for too many dead letters; `dlq resume` lets them go on.", ["service", "topic"])
PASSED_OVER = Counter("mistudio_explain_passed_over", "Records passed over because their job was cancelled or deleted.", ["service", "why"])
OUTCOMES = Counter("mistudio_explain_outcomes", "Outcomes made, by kind and verdict.", ["outcome", "verification"])
FEATURE_TIME = Histogram(
    "mistudio_explain_feature_seconds",
    "Time from a feature's record, as Kafka dates it, to the outcome of its first pass; of a replay, from the copy. What was skipped or scored again "
    "is not timed. An objective asks for the bucket of 900 s.",
    ["outcome"],
    buckets=(1, 5, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400),
)
READY = Gauge("mistudio_explain_ready", "1 while a process can do the work of a service, 0 while /readyz says why it cannot.", ["service"])
CACHED_ANSWERS = Counter("mistudio_explain_cached_answers", "Answers that came from the cache instead of a model.", ["model_name"])
SHARED_ANSWERS = Counter(
    "mistudio_explain_shared_answers",
    "Features asked for in calls that several share, by what became of their answer: usable, missing, swapped, or what else was wrong. "
    "Any but a usable one is asked for again singly: when these are many, lower generation.features_per_call.",
    ["model_name", "result"],
)
TOKENS = Counter("mistudio_explain_tokens", "Tokens counted by the LLM servers, those of unusable answers included.", ["model_name", "direction"])
COST = Counter("mistudio_explain_cost_usd", "What calls to models in clouds were charged, US dollars, by tokens and dated prices.", ["model_name"])
REFUSED_REQUESTS = Counter("mistudio_explain_refused_requests", "Requests that the gateway refused before any route saw them, by the problem's kind.", ["kind"])
ESCALATIONS = Counter("mistudio_explain_escalations", "Candidates of second passes, by what became of them: sent, or refused and why.", ["result"])
FIRST_TOKEN = Histogram(
    "mistudio_explain_first_token_seconds", "Time from sending a call to the first piece of its answer: queue of the server, load of the model, prefill.",
    ["endpoint", "model_name"], buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120),
)  # fmt: skip
FAILED_CALLS = Counter("mistudio_explain_failed_calls", "Calls of a model without a usable answer, by what was wrong.", ["endpoint", "model_name", "kind"])
SLOTS = Gauge("mistudio_explain_slots", "Calls that an endpoint may have in flight; it moves where they are not set.", ["endpoint"])
SLOTS_BUSY = Gauge(
    "mistudio_explain_slots_busy", "Calls in flight at an endpoint. Below its slots while records wait: look at queue wait and breaker.", ["endpoint"]
)
BREAKER = Gauge(
    "mistudio_explain_breaker_state", "0 closed: calls go to an endpoint; 1 half open: one at a time, until one is answered; 2 open: none.", ["endpoint"]
)
QUEUE_WAIT = Histogram(
    "mistudio_explain_queue_wait_seconds", "Time that a call waited for a slot of an endpoint. Long with slots to spare: it waited for a switch of models.",
    ["endpoint", "model_name"], buckets=(0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300),
)  # fmt: skip
SWITCHES = Counter(
    "mistudio_explain_model_switches", "Switches to another model: nothing was left for those loaded (drained), a call had waited long (waited) or was urgent.",
    ["endpoint", "why"],
)  # fmt: skip
STREAMS = Gauge("mistudio_explain_streams", "Clients that a gateway sends events to now.")
STREAMS_DROPPED = Counter("mistudio_explain_streams_dropped", "Clients of event streams that were let go: too slow, or they took nothing any more.", ["why"])
WEBHOOKS = Counter("mistudio_explain_webhooks", "Attempts to tell a receiver of a job's end: accepted or refused.", ["receiver", "result"])

# Consumer lag: a process with the aggregator shows them (observability/lag.py). By name: meaning, labels.
_PARTITION = ("topic", "partition")
_GROUP_TOPIC = ("consumergroup", "topic")
_LANE = ("service", "topic", "target_model")
LAG_METRICS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "mistudio_explain_lag": ("Records that a service has still to finish. `target_model` is empty where a topic carries several.", _LANE),
    "mistudio_explain_lag_in_flight": ("Records that consumers had taken and not finished at the last commits; absent where commits do not say.", _LANE),
    "mistudio_explain_lag_oldest_unfinished_seconds": ("Age of the oldest record that is not finished; absent when there is none.", _LANE),
    "mistudio_explain_lag_expired": ("Records above the commit that retention removed unread. Above 0: their jobs stay incomplete.", _LANE),
    "mistudio_explain_lag_read_success": ("1 when the last reading of lag was complete. 0: what stands beside it is old or partial; the log says why.", ()),
    "mistudio_explain_lag_reading_age_seconds": ("Age of the reading that these figures come from.", ()),
    # danielqsj/kafka_exporter's names and labels, so that its dashboards and alerts work
    "kafka_consumergroup_current_offset": ("Committed offset; absent for a partition that the group never committed.", (*_GROUP_TOPIC, "partition")),
    "kafka_consumergroup_current_offset_sum": ("Sum of the committed offsets of a topic.", _GROUP_TOPIC),
    "kafka_consumergroup_lag": ("End less committed offset; the whole log of a partition that the group never committed.", (*_GROUP_TOPIC, "partition")),
    "kafka_consumergroup_lag_sum": ("Sum of the lag of a topic.", _GROUP_TOPIC),
    "kafka_consumergroup_members": ("Members of a consumer group.", ("consumergroup",)),
    "kafka_topic_partitions": ("Partitions of a topic.", ("topic",)),
    "kafka_topic_partition_current_offset": ("Offset of the next record.", _PARTITION),
    "kafka_topic_partition_oldest_offset": ("Offset at which the log starts.", _PARTITION),
    "kafka_topic_partition_leader": ("Broker that leads a partition, -1 for none.", _PARTITION),
    "kafka_topic_partition_leader_is_preferred": ("1 when the leader is the preferred one.", _PARTITION),
    "kafka_topic_partition_replicas": ("Replicas of a partition.", _PARTITION),
    "kafka_topic_partition_in_sync_replica": ("Replicas that are in sync.", _PARTITION),
    "kafka_topic_partition_under_replicated_partition": ("1 when a replica is not in sync.", _PARTITION),
    "kafka_brokers": ("Brokers of the cluster.", ()),
    "kafka_broker_info": ("1 for each broker.", ("id", "address")),
}
