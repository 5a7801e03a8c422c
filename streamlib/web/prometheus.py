"""Metrics in the text format that Prometheus reads, version 0.0.4.

Names get the prefix ``streamlib_``; what ends in ``_total`` is a counter, everything else a gauge.
"""

from streamlib.metrics import Metrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "streamlib_"


def exposition(metrics: Metrics) -> str:
    """All metrics, one line each, those of one name together and in a fixed order."""
    families: dict[str, list[str]] = {}
    for name, labels, value in metrics:
        pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in sorted(labels.items()))
        shown = f"{{{pairs}}}" if pairs else ""
        families.setdefault(name, []).append(f"{PREFIX}{name}{shown} {value:.17g}")
    lines: list[str] = []
    for name, samples in sorted(families.items()):
        lines.append(f"# TYPE {PREFIX}{name} {'counter' if name.endswith('_total') else 'gauge'}")
        lines += sorted(samples)
    return "".join(f"{line}\n" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
