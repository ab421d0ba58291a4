"""Finding passages: text to tokens (`tokenize`), scores by words (`bm25`), two rankings into one (`fusion`), and how good a
ranking is (`metrics`)."""

from course_lib.retrieval.bm25 import BM25, Explanation, Hit
from course_lib.retrieval.tokenize import Tokenizer

__all__ = ["BM25", "Explanation", "Hit", "Tokenizer"]
