"""Tensor products of irreps of O(3): one layer, several rules."""

from erlangen.nn.products.module import TensorProduct, tensor_product

__all__ = ["TensorProduct", "tensor_product"]
