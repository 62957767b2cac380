"""Telemetry as a stream: what applications tell of, in partitions that each have one reader.

Order of modules: `wire` is what a message holds, `publisher` puts messages in, `ownership` says which process reads
which partition, `worker` reads them, `sessions` is what is remembered of each session, `intake` takes what others
publish. docs/decisions/0011-telemetry-is-partitioned-and-owned.md says why.
"""
