"""The shapes that plugs fill: what the core asks of a store, a queue, a provider and a clock-free world outside."""

from penstock.core.ports.alerts import Channel
from penstock.core.ports.objects import Objects
from penstock.core.ports.outlet import Outlet, Reply
from penstock.core.ports.provider import Answer, Call, Connection, Correspondence, Posted
from penstock.core.ports.queue import Message, Queue
from penstock.core.ports.store import Store

__all__ = [
    "Answer",
    "Call",
    "Channel",
    "Connection",
    "Correspondence",
    "Message",
    "Objects",
    "Outlet",
    "Posted",
    "Queue",
    "Reply",
    "Store",
]
