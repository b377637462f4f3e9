"""Networks: backbones, heads, pretrained weights, and which layers train."""
