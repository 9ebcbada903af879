"""A certificate for servers of tests that want TLS. It proves nothing to anybody, and its key is no secret."""

from __future__ import annotations

from pathlib import Path

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBhzCCAS2gAwIBAgIUT/c6XJn4873ImwroNQEdgIsO7HIwCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNdGVzdHMuaW52YWxpZDAgFw0yNjExMzAwOTQzMTdaGA8yMTI2
MTEwNjA5NDMxN1owGDEWMBQGA1UEAwwNdGVzdHMuaW52YWxpZDBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABCOlnaLR4UZ58xB97QYfMZzOkgb0YDE8FHFJs4jh7C60
kBiPLYBEjONVI7krGnzwjLW0iAgMmqcI+5T1yXOYjjmjUzBRMB0GA1UdDgQWBBQ/
bc0P+QAFiZJ+f0oEOR0z+I44mDAfBgNVHSMEGDAWgBQ/bc0P+QAFiZJ+f0oEOR0z
+I44mDAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQD8DTyBkXSJ
eFpbtE4l3kvD3stkIUvn+FdKd86K7CpQOgIge4fciaZZxvyInlnXKQxT6JAyA+jV
5fH1mm/Hx7hddTs=
-----END CERTIFICATE-----
"""

KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgDoBBfwmx7Q+zPB37
hfXhKqGfXWWakXqWvLNZnemHHzmhRANCAAQjpZ2i0eFGefMQfe0GHzGczpIG9GAx
PBRxSbOI4ewutJAYjy2ARIzjVSO5Kxp88Iy1tIgIDJqnCPuU9clzmI45
-----END PRIVATE KEY-----
"""


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Write certificate and key; return where they are."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_text(CERTIFICATE)
    key.write_text(KEY)
    return certificate, key
