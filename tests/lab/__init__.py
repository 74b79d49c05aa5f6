"""Tests on a rehearsal lab: containers as hosts, and all that happens on them is real but for the cards."""
