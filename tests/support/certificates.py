"""A certificate authority of the test's own, made with the openssl command."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest


class Authority:
    """Makes certificates that only those trust who are given `bundle`."""

    def __init__(self, directory: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("the openssl command is not installed")
        self._directory = directory
        self.bundle = str(directory / "ca.pem")
        self._openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "7300",
            "-subj", "/CN=crashfree test authority",
            "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout", "ca.key", "-out", "ca.pem",
        )  # fmt: skip

    def issue(self, host: str) -> tuple[str, str]:
        """Return the files of a certificate for `host` and of its key."""
        names = self._directory / f"{host}.ext"
        names.write_text(f"subjectAltName=DNS:{host}\nauthorityKeyIdentifier=keyid\n")
        self._openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={host}",
            "-keyout", f"{host}.key", "-out", f"{host}.csr",
        )  # fmt: skip
        self._openssl(
            "x509", "-req", "-in", f"{host}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "7300", "-extfile", names.name, "-out", f"{host}.pem",
        )  # fmt: skip
        return str(self._directory / f"{host}.pem"), str(self._directory / f"{host}.key")

    def server_context(self, host: str) -> ssl.SSLContext:
        """Return what a server for `host` needs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(host))
        return context

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments], cwd=self._directory, check=True, capture_output=True
        )
