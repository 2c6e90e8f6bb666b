from .ae_loss import BatchedAssociativeEmbeddingLoss

__all__ = ['BatchedAssociativeEmbeddingLoss']
