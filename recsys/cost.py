"""What a piece of work costs: seconds, and by how much it raised the memory of this process."""

import time
from pathlib import Path
from types import TracebackType

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class Cost:
    """As a context: afterwards `seconds`, and `peak_mib`: the peak of the resident memory above where it began.

    The peak is what Linux keeps of it (VmHWM, reset by writing 5 to clear_refs); elsewhere it is None.
    """

    seconds = 0.0
    peak_mib: float | None = None

    def __enter__(self) -> "Cost":
        self._before = _resident("VmRSS:") if _reset_peak() else None
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._started
        if self._before is not None:
            self.peak_mib = max(0.0, (_resident("VmHWM:") - self._before) / 1024)


def _reset_peak() -> bool:
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _resident(line: str) -> float:
    """A figure of /proc/self/status in KiB."""
    for text in _STATUS.read_text().splitlines():
        if text.startswith(line):
            return float(text.split()[1])
    return 0.0
