"""The popular answer, repaired as far as its shapes go: new parameters at each call.

fails: p02_parameters_registered
"""


class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, num_heads, num_kv_heads=None):
        super().__init__()
        if d_model % num_heads or num_heads % (num_kv_heads or num_heads):
            raise ValueError("sizes do not fit")
        self.d_model, self.num_heads = d_model, num_heads

    def forward(self, q, k, v, mask=None, need_weights=False):
        H, Dh = self.num_heads, self.d_model // self.num_heads
        w_q, w_k, w_v = (nn.Parameter(torch.randn(H, self.d_model, Dh)) for _ in range(3))
        q, k, v = q[:, None] @ w_q, k[:, None] @ w_k, v[:, None] @ w_v
        scores = q @ k.mT / math.sqrt(Dh)
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1)
        if mask is not None:
            weights = weights.masked_fill(~mask, 0.0)
        out = (weights @ v).transpose(1, 2).flatten(2)
        return (out, weights) if need_weights else out
