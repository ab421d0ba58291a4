"""Finding passages: text to tokens (`tokenize`), scores by words (`bm25`) and by meaning (`dense`, `lsa`), two rankings into one
(`fusion`, `hybrid`), the best of them in a new order (`rerank`, `late_interaction`, `llm_rerank`), over a vector store
(`vector_store`), to and from files (`storage`), long texts in pieces (`chunk`), and how good a ranking is (`metrics`)."""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes
from course_lib.retrieval.bm25 import BM25, Explanation
from course_lib.retrieval.dense import Dense
from course_lib.retrieval.documents import Hit
from course_lib.retrieval.tokenize import Tokenizer

if TYPE_CHECKING:
    from course_lib.retrieval.hybrid import HybridRetriever
    from course_lib.retrieval.late_interaction import LateInteraction
    from course_lib.retrieval.llm_rerank import LLMReranker
    from course_lib.retrieval.lsa import LSA
    from course_lib.retrieval.rerank import RerankCompressor, Weighted
    from course_lib.retrieval.vector_store import StoreLeg

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
    "StoreLeg",
    "Tokenizer",
    "Weighted",
]
# Name -> module; LangChain takes a second.
_MODULES = {
    "HybridRetriever": "hybrid",
    "LLMReranker": "llm_rerank",
    "LSA": "lsa",
    "LateInteraction": "late_interaction",
    "RerankCompressor": "rerank",
    "StoreLeg": "vector_store",
    "Weighted": "rerank",
}
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
