"""One node, composed of its parts. The only place that knows them all (DESIGN section 2)."""
