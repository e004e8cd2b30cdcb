"""Where the log lines of this process go."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from penstock import telemetry
from penstock.settings import Settings, fault

if TYPE_CHECKING:
    from penstock.sinks import Sink

log = logging.getLogger("penstock.logs")

MIB = 1024 * 1024


def configure_logs(settings: Settings) -> None:
    """Send log lines to standard error, and to the file and the listener that are configured; those of functions in the
    shape that CloudWatch knows.

    Raises ``SettingsError`` for a file that cannot be written; in a function, which may have nowhere to write, it is
    left out with a warning.
    """
    _configure(settings)
    if settings.door:
        from penstock import cloudwatch  # noqa: PLC0415 - only functions need it

        cloudwatch.shape(settings.service)


def _configure(settings: Settings) -> None:
    section = settings.document.logging
    if section.file is None and section.remote_sink is None:
        telemetry.configure(section.level, section.format)
        return
    from penstock.sinks import FileSink, UdpSink  # noqa: PLC0415 - most processes have no other sinks

    sinks: list[Sink] = []
    problem: OSError | None = None
    if section.file is not None:
        rotation = section.rotation
        try:
            sinks.append(FileSink(section.file, int(rotation.max_size_mb * MIB), rotation.max_files))
        except OSError as error:
            if not settings.door:
                why = f"{section.file} cannot be written: {error.strerror}"
                raise fault(settings.source, ["logging", "file"], why) from None
            problem = error
    if section.remote_sink is not None:
        host, _, port = section.remote_sink.rpartition(":")
        sinks.append(UdpSink(host.strip("[]"), int(port)))
    telemetry.configure(section.level, section.format, sinks)
    if problem is not None:
        log.warning("the log file %s cannot be written: %s", section.file, problem.strerror)
