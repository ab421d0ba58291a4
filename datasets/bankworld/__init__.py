"""A seeded world of fictional banks: facts first, then text from them.

Reading order: `values` (what a fact can be), `schema` (what the YAML files may say), `bank` (facts of one
bank), `english` (facts as words), `passages`, `questions`, `haneul` (the files of Haneul Bank).
"""
