"""Generate fictional banks from a seed: facts first, then handbook passages and questions made from them.

Haneul Bank, which the chapters use as data, is one of these banks; the course's models are trained on others.
Reading order: `values` (what a fact can be), `schema` (the contents of the YAML files), `bank` (the facts of
one bank), `english` (facts as words), `passages`, `questions`, `haneul` (Haneul Bank's questions).
"""
