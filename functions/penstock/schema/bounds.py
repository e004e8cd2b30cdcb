"""What the sections of a configuration are held to."""

from __future__ import annotations

from ipaddress import ip_network

NETWORKS = "networks such as 10.0.0.0/8"


def require(name: str, holds: bool, wanted: str) -> None:
    """Raise ``ValueError`` that begins with the field's name, unless something holds."""
    if not holds:
        raise ValueError(f"{name}: must be {wanted}")


def is_network(text: str) -> bool:
    """Whether a text is a network, such as 10.0.0.0/8."""
    try:
        ip_network(text)
    except ValueError:
        return False
    return True
