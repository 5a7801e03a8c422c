"""Real workers on a real Kafka, killed and frozen at random, and an independent look at what came out.

    python -m tests.chaos --workers 3 --records 200000 --kills 50 --stops 10 --guarantee exactly_once_v2 --seed 1 \
        --json report.json

`load` says what is written, `topology` what the workers make of it, `feeder` writes, `faults` and `slots` break and
mend, `watch` looks on, with `growth` at the size of workers and with `counters` at what they say themselves, `stage`
has all that ready for one application, `verify` reads everything and counts with `checks` what is wrong, `run` puts
them together, `report` says how large what was found may be.
"""
