"""Heads go into the batch axis sequence by sequence, the mask is repeated head by head.

fails: p02_parity_masks
"""


class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, num_heads, num_kv_heads=None):
        super().__init__()
        num_kv_heads = num_kv_heads or num_heads
        if d_model % num_heads or num_heads % num_kv_heads:
            raise ValueError("sizes do not fit")
        self.num_heads, self.d_head = num_heads, d_model // num_heads
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, num_kv_heads * self.d_head)
        self.v_proj = nn.Linear(d_model, num_kv_heads * self.d_head)
        self.out_proj = nn.Linear(d_model, d_model)

    def heads(self, x):
        x = x.unflatten(-1, (-1, self.d_head)).transpose(1, 2)
        return x.repeat_interleave(self.num_heads // x.shape[1], dim=1).flatten(0, 1)

    def forward(self, q, k, v, mask=None, need_weights=False):
        B, H = len(q), self.num_heads
        q, k, v = self.heads(self.q_proj(q)), self.heads(self.k_proj(k)), self.heads(self.v_proj(v))
        scores = q @ k.mT / math.sqrt(self.d_head)  # (B * H, Tq, Tk)
        if mask is not None:
            mask = mask.expand(B, H, *scores.shape[1:])[:, 0].repeat(H, 1, 1)
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1)
        if mask is not None:
            weights = weights.masked_fill(~mask, 0.0)
        out = (weights @ v).unflatten(0, (B, H)).transpose(1, 2).flatten(2)
        out = self.out_proj(out)
        return (out, weights.unflatten(0, (B, H))) if need_weights else out
