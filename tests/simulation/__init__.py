"""The production worker on a simulated broker and disk, with virtual time and faults, all from one seed."""
