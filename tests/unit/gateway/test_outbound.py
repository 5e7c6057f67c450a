"""Where webhooks may go, how they are signed, and what they say."""

import ipaddress
import ssl
from collections.abc import Collection
from pathlib import Path

import pytest
from pydantic import SecretStr

from integration.local_tls import self_signed
from integration.receiver import receiving, status
from mistudio_explain.errors import BadSettings
from mistudio_explain.events.job import Artefact, Averages, JobReport, JobStatus
from mistudio_explain.gateway.notice import is_told, key_of, notice, notice_id, signed
from mistudio_explain.gateway.outbound import NotAccepted, destination, post, refusal

LOOPBACK = ["127.0.0.0/8"]
PLAIN = ssl.create_default_context()


def names(*addresses: str) -> "Names":
    return Names(addresses)


class Names:
    """A name server; says how often it was asked."""

    def __init__(self, addresses: Collection[str]) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Collection[str]:
        self.asked.append(host)
        return self.addresses


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "192.0.2.1",
        "198.18.0.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::1", "2001:db8::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused_also_within_another(address: str) -> None:
    assert refusal(ipaddress.ip_address(address), "https", ()) is not None


def test_a_public_address_is_allowed_with_tls_alone() -> None:
    for text in ("93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"):
        assert refusal(ipaddress.ip_address(text), "https", ()) is None
        assert "TLS" in str(refusal(ipaddress.ip_address(text), "http", ()))


def test_a_network_that_is_allowed_opens_itself_and_no_other() -> None:
    networks = (ipaddress.ip_network("10.1.0.0/16"),)
    assert refusal(ipaddress.ip_address("10.1.2.3"), "http", networks) is None
    assert refusal(ipaddress.ip_address("10.2.2.3"), "https", networks) is not None


@pytest.mark.parametrize(
    "url", ["ftp://example.com/", "https://", "https://user:word@example.com/", "file:///etc/passwd", "gopher://x/", "https://[::1/", "example.com"]
)
def test_an_address_that_is_no_web_address_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(BadSettings, match="webhooks"):
        destination(url, [])


async def test_a_message_goes_to_the_address_that_was_looked_at_under_the_name_that_was_asked_for() -> None:
    names_ = names("127.0.0.1")
    async with receiving() as receiver:
        await post(destination(f"http://hooks.test:{receiver.port}/a?b=c", LOOPBACK), b"{}", {"webhook-id": "1"}, PLAIN, resolve=names_)
    (message,) = receiver.got
    assert (message.path, message.headers["host"], message.headers["webhook-id"], message.body) == ("/a?b=c", f"hooks.test:{receiver.port}", "1", b"{}")
    assert names_.asked == ["hooks.test"]


async def test_the_certificate_must_be_the_names_and_not_the_addresses(tmp_path: Path) -> None:
    certificate, context = self_signed(tmp_path)  # for 127.0.0.1
    trusting = ssl.create_default_context(cafile=certificate)
    async with receiving(context=context) as receiver:
        await post(destination(f"https://127.0.0.1:{receiver.port}/", LOOPBACK), b"{}", {}, trusting)
        with pytest.raises(NotAccepted, match="CERTIFICATE_VERIFY_FAILED"):
            await post(destination(f"https://hooks.test:{receiver.port}/", LOOPBACK), b"{}", {}, trusting, resolve=names("127.0.0.1"))
    assert len(receiver.got) == 1


async def test_one_private_address_among_public_ones_is_enough_to_refuse_a_name() -> None:
    with pytest.raises(NotAccepted, match=r"169\.254\.169\.254 is no public address"):
        await post(destination("https://hooks.test/", []), b"{}", {}, PLAIN, resolve=names("93.184.215.14", "169.254.169.254"))


@pytest.mark.parametrize(
    ("answer", "said", "repeatable", "wait_s"),
    [
        (status(302, "location: http://127.0.0.1:1/"), "302, and redirects are not followed", True, None),
        (status(500), "500", True, None),
        (status(429, "retry-after: 7"), "429", True, 7.0),
        (status(410), "410", False, None),
        (b"garbage\r\n\r\n", "RemoteProtocolError", True, None),
        (b"", "RemoteProtocolError", True, None),
    ],
)
async def test_what_is_not_accepted_is_said_and_whether_it_is_worth_another_try(answer: bytes, said: str, repeatable: bool, wait_s: float | None) -> None:
    async with receiving(answer) as receiver:
        with pytest.raises(NotAccepted, match=said) as refused:
            await post(destination(f"http://127.0.0.1:{receiver.port}/", LOOPBACK), b"{}", {}, PLAIN)
    assert (refused.value.repeatable, refused.value.wait_s) == (repeatable, wait_s)
    assert len(receiver.got) == 1


async def test_an_answer_of_any_length_is_not_read() -> None:
    async with receiving(b"HTTP/1.1 200 X\r\n\r\n" + b"x" * 10_000_000) as receiver:
        await post(destination(f"http://127.0.0.1:{receiver.port}/", LOOPBACK), b"{}", {}, PLAIN)


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with receiving() as receiver:
        await post(destination(f"http://127.0.0.1:{receiver.port}/", LOOPBACK), b"{}", {}, PLAIN)
    assert len(receiver.got) == 1


def test_a_message_is_signed_as_standard_webhooks_says() -> None:
    """The example of Svix, from whose signatures the standard's are taken (svix-webhooks, "Verifying webhooks manually")."""
    key = key_of(SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), "r")
    headers = signed(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', 1614265330)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_" + "QUFB" * 30])
def test_a_secret_that_is_too_short_or_of_another_form_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(BadSettings) as refused:
        key_of(SecretStr(secret), "r")
    assert not secret or secret not in str(refused.value) or secret == "whsec_"


def report(**changes: object) -> JobReport:
    fields = {
        "explain_job_id": "explain_1", "status": JobStatus.COMPLETED, "admitted": 2, "explained": 2, "skipped": 0, "failed": 0, "flagged": 0,
        "averages": Averages(), "at_ms": 1_700_000_000_000, "notes": ["a text"], "missing": ["a/key"],
        "artefacts": [Artefact(uri="/home/somebody/report.html", sha256="0", size=1)], "beyond_machine": ["http://10.0.0.1"],
    }  # fmt: skip
    return JobReport.model_validate(fields | changes)


def test_a_message_has_the_jobs_numbers_and_no_text_path_or_address() -> None:
    body = notice(report())
    assert b'"type":"job.completed"' in body
    assert b'"explained":2' in body
    assert not any(secret in body for secret in (b"a text", b"somebody", b"10.0.0.1", b"a/key"))


def test_the_same_end_has_the_same_id_and_another_end_another() -> None:
    first = notice_id(report())
    assert notice_id(report(reviewed=1, at_ms=9)) == first
    others = [report(revision=1), report(status=JobStatus.INCOMPLETE), report(expected=3), report(tenant="theirs"), report(explain_job_id="explain_2")]
    assert len({first, *map(notice_id, others)}) == 6
    assert not is_told(report(status=JobStatus.RUNNING))
