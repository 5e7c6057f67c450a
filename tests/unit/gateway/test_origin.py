"""Where requests come from."""

import pytest

from mistudio_explain.gateway.origin import host_of, is_from_another_page, is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost", "LocalHost", "localhost."])
def test_this_machine_is_known_by_its_own_names(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.1", "localhost.evil.example", "127.0.0.1.nip.io", "evil.example", "0x7f.1", "2130706433"])
def test_no_other_name_passes_for_this_machine(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(("header", "host"), [("localhost:8350", "localhost"), ("[::1]:8350", "::1"), ("[::1]", "::1"), ("a.example", "a.example"), ("", "")])
def test_a_host_is_read_without_its_port(header: str, host: str) -> None:
    assert host_of(header) == host


OWN = {"host": "localhost:8350"}


@pytest.mark.parametrize(
    "headers",
    [
        OWN,  # a program
        OWN | {"origin": "http://localhost:8350", "sec-fetch-site": "same-origin"},
        OWN | {"sec-fetch-site": "none"},
        OWN | {"origin": "https://lab.example", "sec-fetch-site": "cross-site"},  # allowed below
    ],
)
def test_programs_the_gateways_own_pages_and_allowed_origins_are_no_strangers(headers: dict[str, str]) -> None:
    assert not is_from_another_page(headers, ["https://lab.example"])


@pytest.mark.parametrize(
    "headers",
    [
        OWN | {"origin": "https://evil.example"},
        OWN | {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
        OWN | {"sec-fetch-site": "cross-site"},
        OWN | {"sec-fetch-site": "same-site"},
        OWN | {"origin": "null"},
        OWN | {"origin": "http://localhost:3000", "sec-fetch-site": "same-site"},
        OWN | {"origin": "https://lab.example.evil.example"},
        {"origin": "http://localhost:8350"},  # no host at all
    ],
)
def test_a_page_of_another_origin_is_a_stranger(headers: dict[str, str]) -> None:
    assert is_from_another_page(headers, ["https://lab.example"])
