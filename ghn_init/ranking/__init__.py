"""Rank candidate architectures before training any, and search for better ones (Zhang et al., 2019)."""

from ghn_init.ranking.candidates import Candidate, sample_space
from ghn_init.ranking.properties import PropertyPredictor
from ghn_init.ranking.proxies import register_proxy
from ghn_init.ranking.rank import rank
from ghn_init.ranking.ranking import Ranked, Ranking
from ghn_init.ranking.recipe import Trained, train, train_best
from ghn_init.ranking.search import search

__all__ = [
    "Candidate",
    "PropertyPredictor",
    "Ranked",
    "Ranking",
    "Trained",
    "rank",
    "register_proxy",
    "sample_space",
    "search",
    "train",
    "train_best",
]
