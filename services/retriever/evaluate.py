"""How well a ranking of APIs fits the labels of an instruction."""

import math
from collections.abc import Collection, Sequence

from services.contracts.apis import ApiRef


def ndcg_at_k(ranking: Sequence[ApiRef], relevant: Collection[ApiRef], k: int) -> float:
    """Normalised discounted cumulative gain of one ranking with yes-or-no labels.

    Args:
        ranking: APIs, best first, without repetitions.
        relevant: The APIs that fit, at least one.
        k: Cut-off rank, >= 1.

    Returns:
        Value in [0, 1].

    Source: Jaervelin and Kekaelaeinen 2002, with discount 1 / log2(rank + 1), as ToolBench's
    `APIEvaluator` applies it (interop 7.6). Deviation: scores of APIs beyond the ranking are not
    needed, because ties do not occur in a fused ranking.
    """
    gain = sum(_discount(i) for i, api in enumerate(ranking[:k]) if api in relevant)
    return gain / sum(_discount(i) for i in range(min(k, len(relevant))))


def recall_at_k(ranking: Sequence[ApiRef], relevant: Collection[ApiRef], k: int) -> float:
    """Share of the relevant APIs, at least one, among the first k of a ranking; in [0, 1]."""
    return sum(api in relevant for api in ranking[:k]) / len(relevant)


def _discount(index: int) -> float:
    return 1.0 / math.log2(index + 2)
