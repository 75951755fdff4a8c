"""TLS of the comparison: one certificate for all servers, one cipher for all clients, and proof of what was agreed on."""

import functools
import re
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .process import Failed

CIPHER, GROUP = "TLS_AES_128_GCM_SHA256", "X25519"

# For every program on OpenSSL that has no flag for these (wrk): see config(5).
OPENSSL_CONF = f"""\
openssl_conf = start
[start]
ssl_conf = ssl
[ssl]
system_default = limits
[limits]
MinProtocol = TLSv1.3
Ciphersuites = {CIPHER}
Groups = {GROUP}
"""


@dataclass(frozen=True)
class Identity:
    """A self-signed P-256 certificate for 127.0.0.1, and the settings of clients."""

    certificate: Path
    key: Path
    client_settings: Path
    openssl: str

    @property
    def environment(self):
        """For the clients that are children of ours."""
        return {"OPENSSL_CONF": str(self.client_settings)}

    @functools.cache
    def context(self):
        """For clients inside this program. It trusts this certificate alone."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context

    def negotiated(self, server):
        """What `server` agrees on with clients that have our settings, as one line. Failed: not what all should use."""
        command = [self.openssl, "s_client", "-connect", f"127.0.0.1:{server.port}", "-CAfile", str(self.certificate)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10,
                              env=self.environment)
        line = negotiated_line(done.stdout)
        if line is None or CIPHER not in line or GROUP not in line:
            raise Failed(f"{server.name}: TLS is {line}, not {CIPHER} with {GROUP}:\n{(done.stdout + done.stderr)[-2000:]}")
        return line


def negotiated_line(said):
    """Version, cipher, group and signature out of what `openssl s_client` printed; None when there was no session."""
    session = re.search(r"^New, (TLSv[\d.]+), Cipher is (\S+)", said, re.MULTILINE)
    group = re.search(r"^(?:Server|Peer) Temp Key: (?:ECDH, )?([^,\n]+)", said, re.MULTILINE)
    group = group or re.search(r"^Negotiated TLS1.3 group: (\S+)", said, re.MULTILINE)  # OpenSSL 3.2 and later
    signature = re.search(r"^Peer signature type: (\S+)", said, re.MULTILINE)
    if not (session and group and signature):
        return None
    return f"{session.group(1)} {session.group(2)} {group.group(1)} {signature.group(1)}"


def make(openssl, folder):
    """A new certificate in `folder`."""
    identity = Identity(folder / "certificate.pem", folder / "key.pem", folder / "openssl.cnf", openssl)
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90",
               "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
               "-keyout", identity.key, "-out", identity.certificate]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise Failed(f"openssl made no certificate:\n{done.stderr}")
    identity.client_settings.write_text(OPENSSL_CONF)
    return identity
