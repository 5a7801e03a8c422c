"""The broker that `local` and `memory` share: topics, partitions, groups and transactions over one SQLite database.

Below the door (`broker`) everything is synchronous and sees rows and blobs: `topics`, `log`, `transactions`, `offsets`.
Above it are the three sides of the port: `consumer` (with `membership`), `producer` and `admin`. A database in memory,
used directly, makes `memory`; a database in a directory, used through one thread, makes `local`.
"""
