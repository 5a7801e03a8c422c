"""streamlib measured beside its peers, on one broker, with every result checked. Start with `compare`."""
