"""Scenarios whose results Apache Kafka Streams has produced, and what is needed to compare with them.

`expr` turns their expressions into functions, `build` their operations into DSL calls, `compare` knows what counts as
equal. The scenarios are in ``scenarios/``: ``NAME.json`` and the result, ``NAME.expected.json``.
"""
