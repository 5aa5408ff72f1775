"""Einsum with a group axis, so that shared heads are never repeated; softmax by hand."""


class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, num_heads, num_kv_heads=None):
        super().__init__()
        if num_kv_heads is None:
            num_kv_heads = num_heads
        Dh, rest = divmod(d_model, num_heads)
        group, rest_of_heads = divmod(num_heads, num_kv_heads)
        if rest or rest_of_heads:
            raise ValueError(f"{d_model}, {num_heads} and {num_kv_heads} do not divide")
        self.q_shape, self.kv_shape = (num_kv_heads, group, Dh), (num_kv_heads, Dh)
        for name, width in (("q", d_model), ("k", num_kv_heads * Dh), ("v", num_kv_heads * Dh)):
            self.add_module(f"{name}_proj", nn.Linear(d_model, width))
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(self, q, k, v, mask=None, need_weights=False):
        q = self.q_proj(q).unflatten(-1, self.q_shape)  # (B, Tq, Hkv, G, Dh)
        k = self.k_proj(k).unflatten(-1, self.kv_shape)  # (B, Tk, Hkv, Dh)
        v = self.v_proj(v).unflatten(-1, self.kv_shape)
        scores = torch.einsum("bqngd,bknd->bngqk", q, k).flatten(1, 2) / q.shape[-1] ** 0.5
        peak = scores.detach().amax(dim=-1, keepdim=True)
        weights = torch.exp(scores - peak)
        if mask is not None:
            peak = scores.detach().masked_fill(~mask, -1e30).amax(dim=-1, keepdim=True)
            weights = torch.exp((scores - peak).clamp(max=0)) * mask
        total = weights.sum(dim=-1, keepdim=True)
        weights = weights / total.masked_fill(total == 0, 1)
        grouped = weights.unflatten(1, self.q_shape[:2])
        out = torch.einsum("bngqk,bknd->bqngd", grouped, v).flatten(2)
        return (self.out_proj(out), weights) if need_weights else self.out_proj(out)
