"""Tests of single parts, without sockets unless the part is one."""

from hypothesis import settings

# A machine that is busy with other tests is no failure, so no example has a time limit of its own.
settings.register_profile("penstock", deadline=None)
settings.load_profile("penstock")
