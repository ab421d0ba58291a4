"""Take an exam under a contest's rules: a time limit, no network, and only models that the rules allow.

`questions` reads the questions, and `haneul` makes some about the course's fictional bank. `rules` checks the
models, `offline` forbids the network, `run` asks the systems in `strategies`, and `report` scores the
answers. `plan` predicts the time on a graphics card.
"""
