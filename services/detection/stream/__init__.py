"""Telemetry as a stream: what applications tell of, in partitions that each have one reader.

Messages in, like events: `worker` reads the partitions, `intake` takes what others publish, `ownership` says which
process reads which. What a message holds is `wire`, `publisher` puts messages in, and `application.sessions` remembers
each session. docs/decisions/0011-telemetry-is-partitioned-and-owned.md says why.
"""
