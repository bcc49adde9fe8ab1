"""Tensor products of irreps of O(3): one layer, several rules."""

from erlangen.nn.products.edge_frame import edge_gaunt
from erlangen.nn.products.many_body import ManyBodyProduct
from erlangen.nn.products.module import TensorProduct, tensor_product

__all__ = ["ManyBodyProduct", "TensorProduct", "edge_gaunt", "tensor_product"]
