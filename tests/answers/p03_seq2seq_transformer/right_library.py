"""The fused attention of torch, positions in a buffer, a tied output layer, log-probabilities kept.

Weights are computed beside the fused call only where they are asked for.
"""


# %% p03_solution_layers
class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(d_model, d_model) for _ in range(4)
        )

    def forward(self, q, k, v, mask=None, need_weights=False):
        def heads(x):
            return x.view(x.shape[0], x.shape[1], self.num_heads, -1).transpose(1, 2)

        q, k, v = heads(self.q_proj(q)), heads(self.k_proj(k)), heads(self.v_proj(v))
        bias = None if mask is None else torch.zeros((), dtype=q.dtype).masked_fill(~mask, -1e9)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        if mask is not None:
            out = out * mask.any(dim=-1, keepdim=True)
        out = self.out_proj(out.transpose(1, 2).reshape(q.shape[0], q.shape[2], -1))
        if not need_weights:
            return out
        weights = (q @ k.mT * q.shape[-1] ** -0.5 + (0 if mask is None else bias)).softmax(-1)
        return out, weights if mask is None else weights * mask


class Residual(nn.Module):
    """What both kinds of layer have."""

    def __init__(self, d_model, nhead):
        super().__init__()
        self.self_attn = MultiHeadAttention(d_model, nhead)
        self.linear1, self.linear2 = (
            nn.Linear(d_model, 2 * d_model),
            nn.Linear(2 * d_model, d_model),
        )
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)

    def look(self, x, mask):
        x_norm = self.norm1(x)
        return x + self.self_attn(x_norm, x_norm, x_norm, mask)

    def think(self, x, norm):
        return x + self.linear2(torch.clamp(self.linear1(norm(x)), min=0))


class EncoderLayer(Residual):
    def forward(self, x, mask=None):
        return self.think(self.look(x, mask), self.norm2)


class DecoderLayer(Residual):
    def __init__(self, d_model, nhead):
        super().__init__(d_model, nhead)
        self.cross_attn, self.norm3 = MultiHeadAttention(d_model, nhead), nn.LayerNorm(d_model)

    def forward(self, y, memory, self_mask=None, cross_mask=None, need_weights=False):
        y = self.look(y, self_mask)
        seen = self.cross_attn(self.norm2(y), memory, memory, cross_mask, need_weights)
        out = self.think(y + (seen[0] if need_weights else seen), self.norm3)
        return (out, seen[1]) if need_weights else out


# %% p03_solution_model
def positions(length, d_model):
    table = torch.empty(length, d_model)
    speed = torch.exp(torch.arange(0, d_model, 2) * (-math.log(100.0) / d_model))
    angle = torch.outer(torch.arange(length).float(), speed)
    table[:, ::2], table[:, 1::2] = angle.sin(), angle.cos()
    return table


class TransformerModel(nn.Module):
    def __init__(self, vocab_size, d_model, nhead, num_layers):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_model)
        nn.init.normal_(self.embedding.weight, 0, 1 / math.sqrt(d_model))
        self.encoder = nn.ModuleList([EncoderLayer(d_model, nhead) for _ in range(num_layers)])
        self.decoder = nn.ModuleList([DecoderLayer(d_model, nhead) for _ in range(num_layers)])
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.output = nn.Linear(d_model, vocab_size, bias=False)
        self.output.weight = self.embedding.weight
        self.register_buffer("table", positions(256, d_model))

    def embed(self, tokens):
        vectors = self.embedding(tokens)
        return vectors * vectors.shape[-1] ** 0.5 + self.table[: tokens.shape[1]]

    def forward(self, src, tgt, need_weights=False):
        memory, y, maps = self.embed(src), self.embed(tgt), []
        mask = (src != PAD).view(src.shape[0], 1, 1, src.shape[1])
        causal = ~torch.ones(tgt.shape[1], tgt.shape[1], dtype=torch.bool).triu(1)
        for layer in self.encoder:
            memory = layer(memory, mask)
        memory = self.encoder_norm(memory)
        for layer in self.decoder:
            if need_weights:
                y, weights = layer(y, memory, causal, mask, True)
                maps.append(weights)
            else:
                y = layer(y, memory, causal, mask)
        logits = self.output(self.decoder_norm(y))
        return (logits, torch.stack(maps)) if need_weights else logits


# %% p03_solution_search
def sequence_loss(model, src, tgt):
    read, scored = tgt[:, :-1], tgt[:, 1:]
    losses = F.cross_entropy(model(src, read).transpose(1, 2), scored, reduction="none")
    return (losses * (scored != PAD)).sum() / (scored != PAD).sum()


def greedy_decode(model, src, steps):
    return beam_decode(model, src, steps, 1)


def beam_decode(model, src, steps, width):
    found = []
    with torch.inference_mode():
        for row in src:
            tokens, totals = torch.tensor([[START]]), torch.zeros(1)
            for _ in range(steps):
                logs = model(row.expand(len(tokens), -1), tokens)[:, -1].log_softmax(-1)
                logs[:, :END] = -torch.inf
                over = (tokens == END).any(dim=1)
                logs[over] = -torch.inf
                logs[over, PAD] = 0.0
                totals = (totals[:, None] + logs).flatten()
                best = totals.argsort(descending=True)[:width]
                best = best[totals[best] > -torch.inf]
                totals = totals[best]
                parent = best.div(logs.shape[1], rounding_mode="floor")
                tokens = torch.cat([tokens[parent], (best % logs.shape[1])[:, None]], dim=1)
            found.append(tokens[0, 1:].clone())
    return torch.stack(found)
