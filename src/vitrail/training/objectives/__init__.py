"""What stages minimise, a file an objective. `ObjectiveConfig` is the table: a new one is a file and a name here."""

from vitrail.training.objectives.contrastive_caption import ContrastiveCaption
from vitrail.training.objectives.dpo import DPO
from vitrail.training.objectives.embedding_alignment import EmbeddingAlignment
from vitrail.training.objectives.ideal_features import IdealFeatures
from vitrail.training.objectives.next_token import NextToken
from vitrail.training.objectives.objective import Objective, Term, Terms

ObjectiveConfig = NextToken | EmbeddingAlignment | IdealFeatures | ContrastiveCaption | DPO

__all__ = [
    "DPO",
    "ContrastiveCaption",
    "EmbeddingAlignment",
    "IdealFeatures",
    "NextToken",
    "Objective",
    "ObjectiveConfig",
    "Term",
    "Terms",
]
