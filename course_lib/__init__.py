"""Local AI, Measured: the library behind the chapters.

Rooms, lowest first: `errors`, `data`, `measure`, `models`, `retrieval`, `tuning`, `rag`, `learn`, `cli`.
Nothing heavy is imported until it is used.
"""

__version__ = "0.1.0"
