"""Search: find the documents that answer a question, rank them, and measure how good the ranking is.

Words: `tokenize` cuts text into tokens, and `bm25` ranks documents by the tokens they share with the query.
Meaning: `lsa` is a small embedder, `dense` ranks by cosine, `vector_store` adapts any LangChain store.
Both: `hybrid` combines the two rankings with the formulas in `fusion`.
Afterwards: `rerank`, `late_interaction` and `llm_rerank` reorder the results, `metrics` evaluates rankings.
Also: `chunk` splits long documents, and `storage` saves an index to a folder.
"""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes

if TYPE_CHECKING:
    from course_lib.retrieval.bm25 import BM25
    from course_lib.retrieval.dense import Dense
    from course_lib.retrieval.documents import Hit
    from course_lib.retrieval.hybrid import HybridRetriever
    from course_lib.retrieval.late_interaction import LateInteraction
    from course_lib.retrieval.llm_rerank import LLMReranker
    from course_lib.retrieval.lsa import LSA
    from course_lib.retrieval.rerank import RerankCompressor, Weighted
    from course_lib.retrieval.scores import Explanation
    from course_lib.retrieval.tokenize import Tokenizer
    from course_lib.retrieval.vector_store import StoreRetriever

__all__ = [
    "BM25",
    "LSA",
    "Dense",
    "Explanation",
    "Hit",
    "HybridRetriever",
    "LLMReranker",
    "LateInteraction",
    "RerankCompressor",
    "StoreRetriever",
    "Tokenizer",
    "Weighted",
]
_MODULES = {  # name -> module, imported when the name is first used
    "BM25": "bm25",
    "Dense": "dense",
    "Explanation": "scores",
    "Hit": "documents",
    "HybridRetriever": "hybrid",
    "LLMReranker": "llm_rerank",
    "LSA": "lsa",
    "LateInteraction": "late_interaction",
    "RerankCompressor": "rerank",
    "StoreRetriever": "vector_store",
    "Tokenizer": "tokenize",
    "Weighted": "rerank",
}
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
