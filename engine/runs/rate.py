"""How fast work goes, and how long it will take: the one measure of it, for whoever shows one."""

from collections import deque

RECENT = 10.0  # seconds of progress that a rate is about


class Rate:
    """Units a second over the last ``RECENT`` seconds of progress."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def restart(self) -> None:
        """What comes now is another work, or goes on after a pause."""
        self._seen.clear()

    def see(self, time: float, done: int) -> None:
        """``done`` units by ``time``, in seconds of any clock; fewer than before are another work's."""
        if self._seen and done < self._seen[-1][1]:
            self.restart()
        self._seen.append((time, done))
        while len(self._seen) > 2 and time - self._seen[0][0] > RECENT:
            self._seen.popleft()

    @property
    def value(self) -> float | None:
        """None until something was done between two looks."""
        if len(self._seen) < 2:
            return None
        (began, first), (now, last) = self._seen[0], self._seen[-1]
        return (last - first) / (now - began) if now > began and last > first else None


def seconds_left(done: int, total: int, rate: float | None) -> float | None:
    return max(total - done, 0) / rate if rate else None
