"""What sessions, actors and assets did lately, summed over all replicas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from services.detection.domain.rules import Metric
from services.detection.domain.sessions import SLICES, Activity, Baseline, Subject
from services.detection.store.tables import activity_amount_table, activity_baseline_table
from shared.database import Tx, driver

_ADD_AMOUNTS = """
    INSERT INTO activity_amount (subject_by, subject_key, metric, slice, amount)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::float8[])
    ON CONFLICT (subject_by, subject_key, metric, slice)
    DO UPDATE SET amount = activity_amount.amount + excluded.amount
"""
_ADD_BASELINES = """
    INSERT INTO activity_baseline
        (subject_by, subject_key, samples, entropy_sum, entropy_squares, length_sum, updated_at)
    SELECT *, now() FROM unnest($1::text[], $2::text[], $3::float8[], $4::float8[], $5::float8[], $6::float8[])
    ON CONFLICT (subject_by, subject_key) DO UPDATE SET
        samples = activity_baseline.samples + excluded.samples,
        entropy_sum = activity_baseline.entropy_sum + excluded.entropy_sum,
        entropy_squares = activity_baseline.entropy_squares + excluded.entropy_squares,
        length_sum = activity_baseline.length_sum + excluded.length_sum,
        updated_at = now()
"""


_WANTED = "(subject_by, subject_key) IN (SELECT * FROM unnest($1::text[], $2::text[]))"
# Columns by name, here and elsewhere: a later release may add one while this one runs, and a statement that was
# prepared for all columns fails then.
_AMOUNTS = f"SELECT subject_by, subject_key, metric, slice, amount FROM activity_amount WHERE {_WANTED}"  # noqa: S608
_BASELINES = f"""
    SELECT subject_by, subject_key, samples, entropy_sum, entropy_squares, length_sum
    FROM activity_baseline WHERE {_WANTED}
"""  # noqa: S608  # fixed text


async def share(tx: Tx, unshared: Mapping[Subject, Activity]) -> None:
    """Add a replica's part of the sums to the shared ones."""
    # Sorted, so that two replicas take the rows' locks in one order.
    amounts = sorted(
        (subject.by, subject.key, metric.value, at, amount)
        for subject, activity in unshared.items()
        for (metric, at), amount in activity.amounts.items()
    )
    baselines = sorted(
        (subject.by, subject.key, one.samples, one.entropy_sum, one.entropy_squares, one.length_sum)
        for subject, activity in unshared.items()
        if (one := activity.baseline).samples
    )
    connection = await driver(tx)
    if amounts:
        await connection.execute(_ADD_AMOUNTS, *(list(column) for column in zip(*amounts, strict=True)))
    if baselines:
        await connection.execute(_ADD_BASELINES, *(list(column) for column in zip(*baselines, strict=True)))


async def of(tx: Tx, subjects: Sequence[Subject]) -> dict[Subject, Activity]:
    """The shared sums of subjects; an empty Activity for one that nobody has seen."""
    found = {subject: Activity() for subject in subjects}
    connection = await driver(tx)
    keys = [subject.by for subject in subjects], [subject.key for subject in subjects]
    for row in await connection.fetch(_AMOUNTS, *keys):
        amounts = found[Subject(row["subject_by"], row["subject_key"])].amounts
        amounts[Metric(row["metric"]), row["slice"]] = row["amount"]
    for row in await connection.fetch(_BASELINES, *keys):
        found[Subject(row["subject_by"], row["subject_key"])].baseline = Baseline(
            row["samples"], row["entropy_sum"], row["entropy_squares"], row["length_sum"]
        )
    return found


async def forget(tx: Tx, now: float) -> None:
    """Drop what no window reaches any more, and baselines of sessions that ended a day ago."""
    for metric in Metric:
        if metric.window_seconds is not None:
            oldest = int(now * SLICES / metric.window_seconds) - 2 * SLICES
            old = activity_amount_table.delete().filter_by(metric=metric.value)
            await tx.execute(old.where(activity_amount_table.c.slice < oldest))
    age = sa.func.now() - sa.text("interval '1 day'")
    await tx.execute(activity_baseline_table.delete().where(activity_baseline_table.c.updated_at < age))
