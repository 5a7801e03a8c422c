"""The application of the take-over test in streamlib; `java/TakeOver.java` has the same in Kafka Streams."""

from datetime import timedelta

from streamlib import StreamsBuilder, TimeWindows, Topology, serdes
from streamlib.serdes import INT64, STRING

INPUTS = ("sales", "names", "cities")
OUTPUTS = ("counts", "sums", "people")
MINUTE = timedelta(minutes=1)


def take_over(name: str, inputs: str, outputs: str) -> Topology:
    """A repartitioned count, a windowed sum and a join of two tables.

    Args:
        name: The application id.
        inputs, outputs: First parts of the topics' names.
    """
    builder = StreamsBuilder(name)
    sales = builder.stream(f"{inputs}-sales", STRING, INT64)
    (
        sales.group_by(lambda _, amount: f"bucket-{amount % 10}", name="by-bucket", key_serde=STRING)
        .count(store="bucket-counts")
        .to_stream()
        .to(f"{outputs}-counts")
    )
    (
        sales.group_by_key()
        .windowed_by(TimeWindows.of(MINUTE, grace=timedelta(hours=1)))
        .reduce(lambda total, amount: total + amount, store="sums")
        .to_stream()
        .to(f"{outputs}-sums", key_serde=serdes.time_windowed(STRING, MINUTE))
    )
    names = builder.table(f"{inputs}-names", STRING, STRING, store="names")
    cities = builder.table(f"{inputs}-cities", STRING, STRING, store="cities")
    (names.join(cities, lambda name, city: f"{name} of {city}", store="people").to_stream().to(f"{outputs}-people"))
    return builder.build()
