"""Heads in the batch axis, torch.baddbmm for scale and mask, a helper that splits."""


class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, num_heads, num_kv_heads=None):
        super().__init__()
        self.H, self.Hkv = num_heads, num_kv_heads or num_heads
        if d_model % self.H or self.H % self.Hkv:
            raise ValueError("sizes do not fit")
        shared = d_model // self.H * self.Hkv
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, shared)
        self.v_proj = nn.Linear(d_model, shared)
        self.out_proj = nn.Linear(d_model, d_model)

    def split(self, x, heads):
        B, T, width = x.shape
        x = x.view(B, T, heads, width // heads).permute(0, 2, 1, 3)
        x = x[:, :, None].expand(-1, -1, self.H // heads, -1, -1)
        return x.reshape(B * self.H, T, -1)

    def forward(self, q, k, v, mask=None, need_weights=False):
        B, Tq, Tk = len(q), q.shape[1], k.shape[1]
        q = self.split(self.q_proj(q), self.H)
        k = self.split(self.k_proj(k), self.Hkv)
        v = self.split(self.v_proj(v), self.Hkv)
        if mask is None:
            mask = torch.ones(1, dtype=torch.bool)
        mask = mask.expand(B, self.H, Tq, Tk).reshape(B * self.H, Tq, Tk)
        bias = torch.zeros(mask.shape, dtype=q.dtype).masked_fill(~mask, -1e30)
        weights = torch.baddbmm(bias, q, k.mT, alpha=q.shape[-1] ** -0.5).softmax(dim=-1)
        weights = weights * mask
        out = torch.bmm(weights, v).view(B, self.H, Tq, -1).permute(0, 2, 1, 3)
        out = self.out_proj(out.reshape(B, Tq, -1))
        if not need_weights:
            return out
        return out, weights.view(B, self.H, Tq, Tk)
