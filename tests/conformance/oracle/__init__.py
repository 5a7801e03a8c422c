"""The Java oracle: scenarios through Kafka Streams' own TopologyTestDriver."""

from pathlib import Path

from tests.maven import java, output


def run(main_class: str, *arguments: str) -> str:
    """What a Java class of the oracle prints.

    Raises:
        RuntimeError: Maven is missing, or it or the oracle failed; says what they said.
    """
    return output(java(Path(__file__).parent, main_class, *arguments, options=["-XX:TieredStopAtLevel=1"]))
