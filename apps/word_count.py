"""Words per minute: reads `sentences`, writes `word-counts`.

Run: ``streamlib worker apps.word_count:topology``.
"""

from datetime import timedelta

from streamlib import StreamsBuilder, TimeWindows, serdes

builder = StreamsBuilder("word-count")
(
    builder.stream("sentences", key_serde=serdes.STRING, value_serde=serdes.STRING)
    .flat_map_values(str.split)
    .group_by(lambda _, word: word)  # the key changes: a repartition topic is added here
    .windowed_by(TimeWindows.of(timedelta(minutes=1), grace=timedelta(seconds=10)))
    .count(store="word-counts")  # a window store and its changelog topic
    .to_stream()
    .to("word-counts")
)
topology = builder.build()
