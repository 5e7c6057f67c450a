"""A real Apache Kafka that wants TLS and a password, and refuses whatever no access rule allows."""

import secrets
import ssl
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any, Literal

from integration.local_server import run_command
from integration.real_kafka import RECIPE, RealKafka

ADMIN = "admin"
APP = "app"
MECHANISM = "SCRAM-SHA-256"


class SecureKafka(RealKafka):
    """A SASL_SSL broker with two users: `admin`, who may do anything, and `app`, who may do what `allow` was called for."""

    protocol = "SASL_SSL"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.passwords = {user: secrets.token_hex(12) for user in (ADMIN, APP)}
        self._store_password = secrets.token_hex(12)
        self._keystore = folder / "broker.p12"
        self._tool_properties = folder / "tool.properties"

    @property
    def ca_file(self) -> Path:
        """Certificate, PEM, of the authority that signed the broker's."""
        return self.folder / "ca.pem"

    @property
    def client_options(self) -> Mapping[str, Any]:
        return self.options_of(ADMIN)

    def options_of(self, user: str) -> Mapping[str, Any]:
        """What an aiokafka client of `user` is made with."""
        return {
            "bootstrap_servers": self.bootstrap,
            "security_protocol": self.protocol,
            "sasl_mechanism": MECHANISM,
            "sasl_plain_username": user,
            "sasl_plain_password": self.passwords[user],
            "ssl_context": ssl.create_default_context(cafile=str(self.ca_file)),
        }

    def password_file(self, user: str) -> Path:
        """A file whose first line is the user's password."""
        return self.folder / f"{user}.password"

    def change_password(self, user: str, password: str) -> None:
        """Give a user another password on the broker; its file and `passwords` keep the old one."""
        setting = f"{MECHANISM}=[password={password}]"
        self.run_tool("kafka.admin.ConfigCommand", "--alter", "--entity-type", "users", "--entity-name", user, "--add-config", setting)

    def allow(self, kind: Literal["topic", "group"], prefix: str, *operations: str) -> None:
        """Let `app` do operations, as Kafka names them (Read, Write, Describe and so on), on topics or groups whose names begin so."""
        self._add_rule(operations, f"--{kind}", prefix, "--resource-pattern-type", "prefixed")

    def allow_cluster(self, *operations: str) -> None:
        """Let `app` do what belongs to no topic or group, such as IdempotentWrite."""
        self._add_rule(operations, "--cluster")

    def _add_rule(self, operations: Iterable[str], *where: str) -> None:
        wanted = [option for operation in operations for option in ("--operation", operation)]
        self.run_tool("org.apache.kafka.tools.AclCommand", "--add", "--allow-principal", f"User:{APP}", *wanted, *where)

    def _configuration(self) -> str:
        self._make_certificates()
        for user, password in self.passwords.items():
            self.password_file(user).write_text(f"{password}\n")
        self._tool_properties.write_text(
            f"security.protocol={self.protocol}\n"
            f"sasl.mechanism={MECHANISM}\n"
            "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required "
            f'username="{ADMIN}" password="{self.passwords[ADMIN]}";\n'
            "ssl.truststore.type=PEM\n"
            f"ssl.truststore.location={self.ca_file}\n"
        )
        template = Template((RECIPE / "secure.properties").read_text())
        return super()._configuration() + template.substitute(
            admin=ADMIN, admin_password=self.passwords[ADMIN], keystore=self._keystore, store_password=self._store_password, ca_file=self.ca_file
        )

    def _scram_users(self) -> Sequence[str]:
        return [option for user, password in self.passwords.items() for option in ("--add-scram", f"{MECHANISM}=[name={user},password={password}]")]

    def _tool_options(self) -> Sequence[str]:
        return ("--command-config", str(self._tool_properties))

    def _make_certificates(self) -> None:
        authority = self.folder / "ca.p12"
        request, certificate = self.folder / "broker.csr", self.folder / "broker.pem"
        for store, alias, name, extensions in (
            (authority, "ca", "CN=Test authority", ("bc:critical=ca:true", "ku:critical=keyCertSign,cRLSign")),
            (self._keystore, "broker", "CN=localhost", ()),
        ):
            self._keytool(
                store, "-genkeypair", "-alias", alias, "-keyalg", "EC", "-groupname", "secp256r1", "-validity", "30", "-dname", name, *_extensions(*extensions)
            )
        self._keytool(authority, "-exportcert", "-rfc", "-alias", "ca", "-file", str(self.ca_file))
        self._keytool(self._keystore, "-certreq", "-alias", "broker", "-file", str(request))
        signed = _extensions("san=dns:localhost,ip:127.0.0.1", "ku:critical=digitalSignature", "eku=serverAuth")
        self._keytool(authority, "-gencert", "-rfc", "-alias", "ca", "-validity", "30", "-infile", str(request), "-outfile", str(certificate), *signed)
        certificate.write_text(certificate.read_text() + self.ca_file.read_text())
        self._keytool(self._keystore, "-importcert", "-noprompt", "-alias", "broker", "-file", str(certificate))

    def _keytool(self, store: Path, *command: str) -> None:
        run_command("keytool", *command, "-keystore", str(store), "-storetype", "PKCS12", "-storepass", self._store_password)


def _extensions(*values: str) -> list[str]:
    return [option for value in values for option in ("-ext", value)]
