"""A loop over heads, each with its slice of every matrix; outputs summed, not joined."""


class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, num_heads, num_kv_heads=None):
        super().__init__()
        num_kv_heads = num_kv_heads or num_heads
        if d_model % num_heads != 0:
            raise ValueError("num_heads must divide d_model")
        if num_heads % num_kv_heads != 0:
            raise ValueError("num_kv_heads must divide num_heads")
        self.heads, self.width = num_heads, d_model // num_heads
        self.group = num_heads // num_kv_heads
        self.q_proj, self.out_proj = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, self.width * num_kv_heads)
        self.v_proj = nn.Linear(d_model, self.width * num_kv_heads)

    def slice(self, layer, x, head):
        part = slice(head * self.width, (head + 1) * self.width)
        return nn.functional.linear(x, layer.weight[part], layer.bias[part])

    def forward(self, q, k, v, mask=None, need_weights=False):
        size = (q.size(0), self.heads, q.size(1), k.size(1))
        mask = torch.ones(size, dtype=torch.bool) if mask is None else mask.expand(size)
        out, maps = self.out_proj.bias.expand(q.shape), []
        for head in range(self.heads):
            one_q = self.slice(self.q_proj, q, head)
            one_k = self.slice(self.k_proj, k, head // self.group)
            one_v = self.slice(self.v_proj, v, head // self.group)
            scores = one_q @ one_k.transpose(1, 2) * self.width**-0.5
            allowed = mask[:, head]
            scores = torch.where(allowed, scores, float("-inf"))
            empty = ~allowed.any(dim=-1, keepdim=True)
            weights = scores.masked_fill(empty, 0.0).softmax(dim=-1).masked_fill(empty, 0.0)
            columns = self.out_proj.weight[:, head * self.width : (head + 1) * self.width]
            out = out + weights @ one_v @ columns.T
            maps.append(weights)
        if need_weights:
            return out, torch.stack(maps, dim=1)
        return out
