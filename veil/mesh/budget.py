"""What one peer or address may use: so much at once, and so much a second after that."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True, kw_only=True)
class Bucket:
    """A token bucket that is told the time. ``at_s`` is when ``tokens`` was right."""

    capacity: float
    per_s: float
    tokens: float
    at_s: float

    @classmethod
    def full(cls, capacity: float, per_s: float, now_s: float) -> "Bucket":
        return cls(capacity=capacity, per_s=per_s, tokens=capacity, at_s=now_s)

    def take(self, amount: float, now_s: float) -> bool:
        """Takes ``amount`` if it is there."""
        self._refill(now_s)
        if self.tokens < amount:
            return False
        self.tokens -= amount
        return True

    def spend(self, amount: float, now_s: float) -> float:
        """Takes ``amount`` in any case; how many seconds it will be until nothing is owed."""
        self._refill(now_s)
        self.tokens -= amount
        return max(0.0, -self.tokens / self.per_s)

    def give_back(self, amount: float) -> None:
        self.tokens = min(self.capacity, self.tokens + amount)

    def is_full(self, now_s: float) -> bool:
        self._refill(now_s)
        return self.tokens >= self.capacity

    def _refill(self, now_s: float) -> None:
        self.tokens = min(self.capacity, self.tokens + (now_s - self.at_s) * self.per_s)
        self.at_s = now_s


class Buckets(Generic[K]):
    """One bucket for each key, at most ``keys_max`` of them: full ones are forgotten first, then the longest unused."""

    def __init__(self, capacity: float, per_s: float, keys_max: int, now_s: Callable[[], float]) -> None:
        self._capacity = capacity
        self._per_s = per_s
        self._keys_max = keys_max
        self._now_s = now_s
        self._buckets: dict[K, Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: K, amount: float = 1.0) -> bool:
        return self._of(key).take(amount, self._now_s())

    def spend(self, key: K, amount: float) -> float:
        return self._of(key).spend(amount, self._now_s())

    def give_back(self, key: K, amount: float = 1.0) -> None:
        if key in self._buckets:
            self._buckets[key].give_back(amount)

    def _of(self, key: K) -> Bucket:
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            if len(self._buckets) >= self._keys_max:
                self._forget()
            bucket = Bucket.full(self._capacity, self._per_s, self._now_s())
        self._buckets[key] = bucket
        return bucket

    def _forget(self) -> None:
        now_s = self._now_s()
        for key in [key for key, bucket in self._buckets.items() if bucket.is_full(now_s)]:
            del self._buckets[key]
        while len(self._buckets) >= self._keys_max:
            del self._buckets[next(iter(self._buckets))]
