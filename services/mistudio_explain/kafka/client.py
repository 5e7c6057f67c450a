"""The one factory of Kafka clients."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import create_conn
from aiokafka.errors import AuthenticationFailedError, KafkaError, SaslAuthenticationFailed, UnknownError, UnsupportedSaslMechanismError
from faststream.kafka import KafkaBroker
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from mistudio_explain.errors import BadSettings, Unreachable
from mistudio_explain.events.codec import write_as
from mistudio_explain.kafka.patience import Patience, is_outage
from mistudio_explain.kafka.topics import ENVELOPE_BYTES
from mistudio_explain.settings import KafkaSettings, LimitSettings, read_secret

log = structlog.get_logger(__name__)

T = TypeVar("T")

GROUP_PREFIX = "mistudio-explain."
_CLIENT_ID = "mistudio-explain"
_PROBE_TIMEOUT_S = 2.0
_STOP_S = 2.0
_FETCH_BYTES = 64 << 10  # one partition's fetch is drained before the next one's: a small fetch keeps partitions fair
_LINGER_MS = 5
_SASL_CLASSES = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}


class KafkaClients:
    """Makes every Kafka client of a process, all with the same address, security and sizes.

    `embedded` is the address of the embedded broker when no other is configured; that broker refuses idempotent
    producers and keeps no consumer groups worth having. From then on the process writes events as `settings.contract` says.
    """

    def __init__(self, settings: KafkaSettings, limits: LimitSettings, *, embedded: str | None = None) -> None:
        if (address := settings.bootstrap_servers or embedded) is None:
            raise BadSettings("kafka.bootstrap_servers is not set and no embedded broker runs; set it, or use `mistudio-explain run`")
        write_as(settings.contract)
        self.bootstrap_servers = address
        self.is_embedded = settings.bootstrap_servers is None
        self._settings = settings
        self._max_record_bytes = limits.dead_letter_bytes + ENVELOPE_BYTES
        self._smallest_limit_bytes = min(limits.event_bytes, limits.internal_bytes)
        self._ssl_context = _ssl_context(settings)
        self._password = read_secret(settings.sasl_password_file) if settings.sasl_password_file else None
        if "SASL" in settings.security_protocol and (settings.sasl_username is None or self._password is None):
            raise BadSettings(f"kafka.security_protocol is {settings.security_protocol}, which needs kafka.sasl_username and kafka.sasl_password_file")

    def group(self, service: str) -> str | None:
        """The consumer group of a service; none on the embedded broker, where one process reads everything."""
        return None if self.is_embedded else GROUP_PREFIX + service

    def membership(self, *subscribed: str) -> dict[str, Any]:
        """Consumer arguments of a member of a group that reads some topics (names or a pattern): session, and static membership where the replica has a name.

        The member is another one when it reads other topics than before, as in another version. Under its old name Kafka 4.1 gives
        it back what it had without asking what it reads now, and aiokafka 0.14 refuses that each time it comes.
        """
        session = {
            "session_timeout_ms": self._settings.session_timeout_ms,
            "heartbeat_interval_ms": max(300, self._settings.session_timeout_ms // 10),
            "max_poll_interval_ms": self._settings.max_poll_interval_ms,
        }
        if self._settings.instance_id is None or self.is_embedded:
            return session
        topics = sha256("\n".join(sorted(subscribed)).encode()).hexdigest()[:8]
        return {**session, "group_instance_id": f"{self._settings.instance_id}.{topics}"}

    def broker(self) -> KafkaBroker:
        """A FastStream broker that only consumes; publishing goes through one aiokafka producer for the whole process.

        It never waits for handlers when it stops: the subscribers do that themselves.
        """
        return KafkaBroker(
            self.bootstrap_servers.split(","),
            security=self._security(),
            client_id=_CLIENT_ID,
            consumer_only=True,
            allow_auto_create_topics=False,
            metadata_max_age_ms=self._settings.metadata_max_age_ms,
            graceful_timeout=None,
            apply_types=False,
            logger=None,
        )

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        """A started admin client."""
        client = AIOKafkaAdminClient(**self._common())
        try:
            await client.start()
            yield client
        finally:
            await client.close()

    @asynccontextmanager
    async def producer(self, topics: Iterable[str]) -> AsyncIterator[AIOKafkaProducer]:
        """A started producer: every record confirmed by all replicas, none doubled by its own retries.

        `topics` are those it will write to. aiokafka 0.14 begins with the metadata of all topics, but goes on with
        those alone that were unknown when first used: the others lose their leaders at the next refresh, and a
        record for them waits for 40 s.
        """
        client = await self._started_producer(idempotent=not self.is_embedded)
        try:
            await client.client.set_topics(set(topics))
            yield client
        finally:
            await _stop(client)

    async def _started_producer(self, *, idempotent: bool) -> AIOKafkaProducer:
        client = AIOKafkaProducer(
            **self._common(),
            acks="all",
            enable_idempotence=idempotent,
            linger_ms=_LINGER_MS,
            max_request_size=self._max_record_bytes,
            max_batch_size=min(1 << 20, self._smallest_limit_bytes),  # a topic's limit is one of batches
            metadata_max_age_ms=self._settings.metadata_max_age_ms,
        )
        try:
            await client.start()
        except UnknownError:
            await client.stop()
            if not idempotent:
                raise
            return await self._started_producer(idempotent=False)  # the embedded broker of another process, which refuses idempotent producers
        except BaseException:
            await client.stop()
            raise
        return client

    @asynccontextmanager
    async def consumer(self, **arguments: Any) -> AsyncIterator[AIOKafkaConsumer]:
        """A started consumer without a group, for readers that keep their own position."""
        client = AIOKafkaConsumer(**self._common(), enable_auto_commit=False, metadata_max_age_ms=self._settings.metadata_max_age_ms, **arguments)
        try:
            await client.start()
            yield client
        finally:
            await client.stop()

    @property
    def fetching(self) -> dict[str, Any]:
        """Consumer arguments that bound what is fetched ahead."""
        return {"auto_offset_reset": "earliest", "max_partition_fetch_bytes": _FETCH_BYTES, "fetch_max_wait_ms": 50 if self.is_embedded else 500}

    async def wait_until_reachable(self, timeout_s: float | None) -> None:
        """Wait until a broker answers and accepts the credentials; `timeout_s` None waits for ever, 0 tries once.

        Raises Unreachable, at once when the broker refuses the credentials (aiokafka itself would report only "unable
        to bootstrap", and try again).
        """
        await self._reached(self._probe, Patience.of(timeout_s))

    async def started(self, start: Callable[[], Awaitable[T]], patience: Patience) -> T:
        """Start something that needs Kafka, again and again while Kafka is away.

        Raises Unreachable when patience is at its end, and at once when the broker refuses the credentials or a permission.
        """
        has_failed = False

        async def attempt() -> T:
            nonlocal has_failed
            if has_failed:
                await self._probe()
            has_failed = True
            return await start()

        return await self._reached(attempt, patience)

    async def _reached(self, attempt: Callable[[], Awaitable[T]], patience: Patience) -> T:
        try:
            return await patience.wait_for(attempt)
        except (OSError, KafkaError) as error:
            said = f"{type(error).__name__}: {error}"
            if is_outage(error):
                raise Unreachable(
                    f"no Kafka broker answers at {self.bootstrap_servers} ({said}); check kafka.bootstrap_servers, and that the broker runs"
                ) from error
            raise Unreachable(f'Kafka at {self.bootstrap_servers} refuses ({said}); grant what docs/operations.md lists under "Access rules"') from error

    async def _probe(self) -> None:
        refusals = []
        for address in self.bootstrap_servers.split(","):
            try:
                return await self._knock(address.strip())
            except (TimeoutError, OSError, KafkaError) as error:
                refusals.append(error)
        raise refusals[0]

    async def _knock(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        common = {k: v for k, v in self._common().items() if k not in ("bootstrap_servers", "client_id")}
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                connection = await create_conn(host, int(port), **common)
        except (SaslAuthenticationFailed, AuthenticationFailedError, UnsupportedSaslMechanismError) as error:
            raise Unreachable(
                f"Kafka at {self.bootstrap_servers} refuses user {self._settings.sasl_username!r} ({self._settings.sasl_mechanism}): {error}; "
                "check kafka.sasl_username and kafka.sasl_password_file"
            ) from error
        except ssl.SSLError as error:
            raise Unreachable(f"TLS with Kafka at {self.bootstrap_servers} fails: {error}; check kafka.ssl_cafile and kafka.security_protocol") from error
        except ValueError as error:
            raise BadSettings(f"kafka.bootstrap_servers is {self.bootstrap_servers!r}; it must be host:port, comma-separated") from error
        connection.close()

    def _common(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "client_id": _CLIENT_ID,
            "security_protocol": self._settings.security_protocol,
        }
        if self._ssl_context is not None:
            arguments["ssl_context"] = self._ssl_context
        if self._password is not None and self._settings.sasl_username is not None:
            arguments |= {
                "sasl_mechanism": self._settings.sasl_mechanism,
                "sasl_plain_username": self._settings.sasl_username,
                "sasl_plain_password": self._password.get_secret_value(),
            }
        return arguments

    def _security(self) -> BaseSecurity | None:
        use_ssl = self._ssl_context is not None
        if self._password is not None and self._settings.sasl_username is not None:
            kind = _SASL_CLASSES[self._settings.sasl_mechanism]
            return kind(self._settings.sasl_username, self._password.get_secret_value(), ssl_context=self._ssl_context, use_ssl=use_ssl)
        return BaseSecurity(ssl_context=self._ssl_context, use_ssl=True) if use_ssl else None


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext | None:
    if "SSL" not in settings.security_protocol.split("_"):
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
        if settings.ssl_certfile is not None:
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile)
    except (OSError, ssl.SSLError) as error:
        raise BadSettings(f"the TLS files of kafka.ssl_cafile, ssl_certfile or ssl_keyfile cannot be used: {error}") from error
    return context


async def _stop(producer: AIOKafkaProducer) -> None:
    """Stop a producer, in an outage without waiting for it to end.

    What is unconfirmed then belongs to those who no longer wait for it: they commit nothing, so it will be sent again.
    """
    try:
        async with asyncio.timeout(_STOP_S):
            await producer.stop()
    except TimeoutError:
        log.warning("producer.left_unconfirmed", after_s=_STOP_S)
        await producer._sender.close()  # noqa: SLF001  (its own stop waits for the outage to end)
        await producer.client.close()
