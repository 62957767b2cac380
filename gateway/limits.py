"""Rate limits that hold across all replicas together, and cost no round trip where the limit is large.

A window lives in one row in PostgreSQL. A replica leases permits from it - one atomic statement that grants no more
than the window has left - and spends them from memory. What it holds never exceeds half a percent of the limit, so a
limit up to 200 is leased one by one and exact; a limit of 600,000 a minute costs one statement for 1,500 requests.
Permits are spent only inside the window they were leased from: its end is counted from *before* the lease was asked
for, by our monotonic clock, so a replica stops early rather than late. The error is therefore always on one side: a
replica that dies takes its unspent permits with it, and nobody is ever admitted above the limit.

A window starts with the first request after the last one ended, by the database's clock. Requests that arrive while a
lease is under way share the next one: 1,000 at once cost a handful of statements.

When the database is down nothing can be leased. Then requests are refused (503), or, where `outage_share` is set, each
replica admits by itself up to that share of the limit, what it admitted in the window before included. This is no
longer exact. With shares that add up to 1 the limit holds where requests are spread as the shares are; where they are
not, or when the database comes back in the middle of a window, of which it then knows only what was leased, a window
can admit up to twice the limit.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

_RETRY_SECONDS = 0.5
_MAX_BUCKETS = 50_000


@dataclass(frozen=True, slots=True)
class Policy:
    """`quota` requests in each window of `window_seconds`; `name` is what `RateLimit-Policy` calls it."""

    name: str
    quota: int
    window_seconds: int

    @property
    def lease(self) -> int:
        """Permits asked for at a time: a quarter percent, so that with the one being fetched it stays under a half."""
        return max(1, self.quota // 400)

    @property
    def header(self) -> bytes:
        """Its `RateLimit-Policy`."""
        return f'"{self.name}";q={self.quota};w={self.window_seconds}'.encode()


@dataclass(frozen=True, slots=True)
class Want:
    """Permits that a replica asks a window for."""

    subject: str
    policy: Policy
    count: int


@dataclass(frozen=True, slots=True)
class Grant:
    """What the window gave.

    Attributes:
        granted: 0 to the number wanted.
        remaining: what the window has left for everybody.
        window: identifies the window (its start, in microseconds of the database's clock).
        ends_in_seconds: when it ends, as of the statement's answer.
    """

    subject: str
    granted: int
    remaining: int
    window: int
    ends_in_seconds: float


Lease = Callable[[Sequence[Want]], Awaitable[Sequence[Grant]]]


class LimitsUnavailable(Exception):
    """The windows cannot be reached and nothing may be admitted without them."""


@dataclass(slots=True)
class Bucket:
    """What this replica holds of one subject's window.

    Attributes:
        leased: permits got from this window, spent or not.
        balance: those of them that are not spent.
        alone_until, alone_used: what was admitted without a permit, and until when it counts.
    """

    policy: Policy
    leased: int = 0
    balance: int = 0
    remaining: int = 0
    window: int = 0
    ends_at: float = 0.0
    exhausted: bool = False
    fetching: bool = False
    waiters: list[asyncio.Future[bool]] = field(default_factory=list)
    policy_header: tuple[bytes, bytes] | None = None
    alone_until: float = 0.0
    alone_used: int = 0

    def headers(self, now: float) -> list[tuple[bytes, bytes]]:
        """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10)."""
        state = f'"{self.policy.name}";r={self.balance + self.remaining};t={self.reset_seconds(now)}'
        if self.policy_header is None:
            self.policy_header = (b"ratelimit-policy", self.policy.header)
        return [self.policy_header, (b"ratelimit", state.encode())]

    def reset_seconds(self, now: float) -> int:
        return max(1, math.ceil(self.ends_at - now)) if self.ends_at > now else self.policy.window_seconds


class Limiter:
    """The limits of one replica.

    Args:
        lease: asks the windows; see store.lease. Any exception counts as the store being down.
        outage_share: share of each limit that this replica admits by itself while the store is down; 0 refuses.
    """

    def __init__(self, lease: Lease, *, outage_share: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease = lease
        self._outage_share = outage_share
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}
        self._pending: set[str] = set()
        self._pump: asyncio.Task[None] | None = None
        self._down_until = 0.0

    def take(self, subject: str, policy: Policy) -> tuple[bool, Bucket] | None:
        """Decide from memory: admitted or not, and the bucket; None when the store has to be asked (`acquire`)."""
        bucket = self._buckets.get(subject)
        if bucket is None or bucket.policy is not policy:
            return None
        now = self._clock()
        if now >= bucket.ends_at:
            return None
        if bucket.balance > 0:
            bucket.balance -= 1
            low = bucket.balance < policy.lease // 2
            if low and not bucket.fetching and not bucket.exhausted and now >= self._down_until:
                bucket.fetching = True
                self._ask(subject)
            return True, bucket
        return (False, bucket) if bucket.exhausted else None

    async def acquire(self, subject: str, policy: Policy) -> tuple[bool, Bucket]:
        """Decide with the store.

        Raises:
            LimitsUnavailable: the store is down and `outage_share` is 0.
        """
        bucket = self._bucket(subject, policy)
        decided = self.take(subject, bucket.policy)
        if decided is not None:
            return decided
        if self._clock() < self._down_until:
            return self._admit_alone(bucket)
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        bucket.waiters.append(waiter)
        self._ask(subject)
        try:
            return await waiter, bucket
        except LimitsUnavailable:
            return self._admit_alone(bucket)

    def _bucket(self, subject: str, policy: Policy) -> Bucket:
        bucket = self._buckets.get(subject)
        if bucket is None:
            if len(self._buckets) >= _MAX_BUCKETS:
                self._forget()
            bucket = self._buckets[subject] = Bucket(policy)
        elif bucket.policy is not policy:
            if bucket.policy != policy:
                bucket.leased -= bucket.balance
                bucket.balance, bucket.ends_at, bucket.exhausted = 0, 0.0, False
            bucket.policy = policy
            bucket.policy_header = None
        return bucket

    def _forget(self) -> None:
        now = self._clock()
        for subject, bucket in list(self._buckets.items()):
            if now >= bucket.ends_at and not bucket.waiters:
                del self._buckets[subject]

    def _ask(self, subject: str) -> None:
        self._pending.add(subject)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.get_running_loop().create_task(self._lease_pending())

    async def _lease_pending(self) -> None:
        """One statement at a time; whoever asks meanwhile is in the next one."""
        while self._pending:
            subjects, self._pending = self._pending, set()
            asked: list[tuple[Bucket, Want, list[asyncio.Future[bool]]]] = []
            for subject in sorted(subjects):
                bucket = self._buckets.get(subject)
                if bucket is None:
                    continue
                waiters = [waiter for waiter in bucket.waiters if not waiter.done()]
                bucket.waiters = []
                count = max(len(waiters), bucket.policy.lease)
                if waiters or bucket.fetching:
                    asked.append((bucket, Want(subject, bucket.policy, count), waiters))
            if not asked:
                continue
            asked_at = self._clock()
            try:
                grants = {grant.subject: grant for grant in await self._lease([want for _, want, _ in asked])}
                for bucket, want, waiters in asked:
                    if bucket.policy == want.policy:
                        _settle(bucket, want, grants[want.subject], waiters, asked_at)
                    else:  # the limit was changed meanwhile: these permits belong to the old one
                        bucket.fetching = False
                        bucket.waiters = waiters + bucket.waiters
                        self._pending.add(want.subject)
            except Exception as error:
                self._down_until = self._clock() + _RETRY_SECONDS
                for bucket, _, waiters in asked:
                    bucket.fetching = False
                    for waiter in waiters:
                        if not waiter.done():
                            waiter.set_exception(LimitsUnavailable(repr(error)))

    def _admit_alone(self, bucket: Bucket) -> tuple[bool, Bucket]:
        if self._outage_share <= 0:
            raise LimitsUnavailable("the store of rate limits cannot be reached")
        now = self._clock()
        in_window = now < bucket.ends_at
        if now >= bucket.alone_until:
            bucket.alone_until = bucket.ends_at if in_window else now + bucket.policy.window_seconds
            bucket.alone_used = 0
        spent = bucket.alone_used + (bucket.leased - bucket.balance if in_window else 0)
        if spent + 1 > bucket.policy.quota * self._outage_share:
            return False, bucket
        bucket.alone_used += 1
        return True, bucket


def _settle(bucket: Bucket, want: Want, grant: Grant, waiters: list[asyncio.Future[bool]], asked_at: float) -> None:
    bucket.fetching = False
    if bucket.window != grant.window:
        bucket.leased = bucket.balance = 0
        bucket.alone_until = 0.0
        bucket.window = grant.window
    bucket.leased += grant.granted
    bucket.balance += grant.granted
    bucket.remaining = grant.remaining
    bucket.ends_at = asked_at + grant.ends_in_seconds
    bucket.exhausted = grant.granted < want.count
    for waiter in waiters:
        if waiter.done():
            continue  # its client went away; the permit stays for the next one
        if bucket.balance > 0:
            bucket.balance -= 1
            waiter.set_result(True)
        else:
            waiter.set_result(False)
