"""A certificate for 127.0.0.1 that no authority of this machine has signed."""

import shutil
import ssl
from pathlib import Path

from integration.components import require
from integration.local_server import run_command


def self_signed(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """The certificate's file, PEM, and what a server that shows it is made with."""
    if shutil.which("openssl") is None:
        require("openssl", "install it (Debian: apt-get install openssl)")
    certificate, key = folder / "ca.crt", folder / "server.key"
    subject = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    run_command("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-keyout", str(key), "-out", str(certificate), *subject)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return certificate, context
