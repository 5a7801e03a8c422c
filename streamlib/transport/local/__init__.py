"""The embedded broker: one durable SQLite database in a directory, for one worker process at a time.

Nothing to install and nothing to start: for trying things out, small deployments and edge devices. Any number of
processes may look at topics, produce and consume while the worker runs.
"""
