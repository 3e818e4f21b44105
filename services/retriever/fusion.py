"""Joins the rankings of the channels into one.

Source: Cormack, Clarke and Buettcher 2009, "Reciprocal Rank Fusion outperforms Condorcet and
individual Rank Learning Methods": score(d) = sum over rankings of 1 / (k + rank(d)), rank from 1.
Deviation: each ranking has a weight, because on API documents words are the better guide.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.contracts.apis import ApiRef
from services.contracts.retriever import RetrievedApi
from services.retriever.corpus import ref_key
from services.retriever.index.base import DENSE, SPARSE, ChannelHits, Hit


@dataclass(frozen=True, slots=True)
class Fusion:
    """Parameters of the fusion."""

    k: float
    """Added to every rank, >= 0; the larger, the less the top ranks stand out."""
    sparse_weight: float
    """Share of the sparse ranking in [0, 1]; the dense one has the rest."""


def fuse(hits: ChannelHits, *, fusion: Fusion, top_k: int, limit: int) -> tuple[RetrievedApi, ...]:
    """Rank the APIs that either channel found, best first, each once.

    Args:
        hits: What the channels found.
        fusion: Parameters.
        top_k: Longest list returned, >= 1.
        limit: How many hits each channel was asked for.
    """
    scores: dict[ApiRef, float] = {}
    parts: dict[ApiRef, dict[str, float]] = {}
    channels = (
        (DENSE, hits.dense, 1.0 - fusion.sparse_weight),
        (SPARSE, hits.sparse, fusion.sparse_weight),
    )
    for name, found, weight in channels:
        for rank, hit in enumerate(_ranking(found, top_k=top_k, limit=limit), start=1):
            scores[hit.ref] = scores.get(hit.ref, 0.0) + weight / (fusion.k + rank)
            parts.setdefault(hit.ref, {})[name] = hit.score
    best = sorted(scores, key=lambda ref: (-scores[ref], ref_key(ref)))[:top_k]
    return tuple(
        RetrievedApi(api=ref, rank=rank, score=scores[ref], score_parts=parts[ref])
        for rank, ref in enumerate(best, start=1)
    )


def _ranking(found: Sequence[Hit], *, top_k: int, limit: int) -> list[Hit]:
    """Hits in an order that does not depend on chance, the best one of each API.

    A store orders equal scores arbitrarily and cuts the list among them, so the order is settled
    by address and a last group of equals that may have been cut is left out, where `top_k` allows.
    """
    best: dict[ApiRef, Hit] = {}
    for hit in sorted(found, key=lambda hit: (-hit.score, ref_key(hit.ref))):
        best.setdefault(hit.ref, hit)
    ranking = list(best.values())
    if len(found) < limit:
        return ranking
    whole = [hit for hit in ranking if hit.score > ranking[-1].score]
    return whole if len(whole) >= top_k else ranking
