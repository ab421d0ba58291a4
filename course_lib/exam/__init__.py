"""Take an exam under a contest's rules: a time limit, no network, only models that the rules allow.

`questions` reads the questions, `rules` checks models, `offline` forbids the network, `run` asks a system
within the time, and `report` scores the answers.
"""
