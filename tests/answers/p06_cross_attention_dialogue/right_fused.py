"""The fused attention of torch, a tied output layer, and replies without a cache, one by one."""


# %% p06_solution_attention
class CrossAttention(nn.Module):
    def __init__(self, d_model, nhead):
        super().__init__()
        if d_model % nhead != 0:
            raise ValueError(f"d_model {d_model}, nhead {nhead}")
        self.nhead = nhead
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(d_model, d_model) for _ in range(4)
        )

    def cut(self, x):
        return x.view(*x.shape[:2], self.nhead, -1).transpose(1, 2)

    def keys_values(self, memory):
        weight = torch.cat([self.k_proj.weight, self.v_proj.weight])
        bias = torch.cat([self.k_proj.bias, self.v_proj.bias])
        return torch.stack([self.cut(x) for x in F.linear(memory, weight, bias).chunk(2, dim=-1)])

    def forward(self, x, keys_values, mask):
        q, k, v = self.cut(self.q_proj(x)), keys_values[0], keys_values[1]
        hidden = torch.zeros((), dtype=x.dtype).masked_fill(~mask, -1e9)
        seen = mask.any(dim=-1, keepdim=True)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=hidden) * seen
        weights = (q @ k.mT * q.shape[-1] ** -0.5 + hidden).softmax(dim=-1) * mask
        return self.out_proj(out.transpose(1, 2).reshape(x.shape)), weights


# %% p06_solution_layers
class Layer(nn.Module):
    """Either kind of layer: residual sums around what stands between the norms."""

    def __init__(self, d_model, nhead, attentions):
        super().__init__()
        for name in attentions:
            setattr(self, name, CrossAttention(d_model, nhead))
        for number in range(len(attentions) + 1):
            setattr(self, f"norm{number + 1}", nn.LayerNorm(d_model))
        self.up, self.down = nn.Linear(d_model, 2 * d_model), nn.Linear(2 * d_model, d_model)

    def think(self, x, norm):
        return x + self.down(torch.clamp(self.up(norm(x)), min=0))


class EncoderLayer(Layer):
    def __init__(self, d_model, nhead):
        super().__init__(d_model, nhead, ["self_attn"])

    def forward(self, x, mask):
        normed = self.norm1(x)
        pair = self.self_attn.keys_values(normed)
        return self.think(x + self.self_attn(normed, pair, mask)[0], self.norm2)


class DecoderLayer(Layer):
    def __init__(self, d_model, nhead):
        super().__init__(d_model, nhead, ["self_attn", "cross_attn"])

    def forward(self, y, cache, cross, mask):
        normed, S, T = self.norm1(y), cache.size(-2), y.size(1)
        cache = torch.cat([cache, self.self_attn.keys_values(normed)], dim=-2)
        causal = ~torch.ones(T, S + T, dtype=torch.bool).triu(S + 1)
        y = y + self.self_attn(normed, cache, causal)[0]
        seen, weights = self.cross_attn(self.norm2(y), cross, mask)
        return self.think(y + seen, self.norm3), cache, weights


# %% p06_solution_model
class CrossAttentionGenerator(nn.Module):
    def __init__(self, d_model, nhead, vocab_size=WORDS, num_layers=2):
        super().__init__()
        self.words = nn.Embedding(vocab_size, d_model)
        nn.init.normal_(self.words.weight, 0, 1 / math.sqrt(d_model))
        self.encoder = nn.ModuleList([EncoderLayer(d_model, nhead) for _ in range(num_layers)])
        self.decoder = nn.ModuleList([DecoderLayer(d_model, nhead) for _ in range(num_layers)])
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.output = nn.Linear(d_model, vocab_size, bias=False)
        self.output.weight = self.words.weight

    def embed(self, tokens, places):
        vectors = self.words(tokens)
        return vectors * vectors.shape[-1] ** 0.5 + positions(places, vectors.shape[-1])

    def read(self, context):
        mask = (context > PAD).unsqueeze(1).unsqueeze(1)
        memory = self.embed(context, from_end(context))
        for layer in self.encoder:
            memory = layer(memory, mask)
        memory = self.encoder_norm(memory)
        return torch.stack([x.cross_attn.keys_values(memory) for x in self.decoder]), mask

    def whole(self, tokens, cross, mask, cache=None):
        cache = cross.narrow(-2, 0, 0) if cache is None else cache
        y = self.embed(tokens, torch.arange(tokens.size(1)) + cache.size(-2))
        found = []
        for layer, *own in zip(self.decoder, cache, cross, strict=True):
            y, *rest = layer(y, *own, mask)
            found.append(rest)
        caches, maps = (torch.stack(parts) for parts in zip(*found, strict=True))
        return self.output(self.decoder_norm(y)), caches, maps

    def step(self, tokens, cross, mask, cache=None):
        logits, caches, _ = self.whole(tokens, cross, mask, cache)
        return logits, caches

    def forward(self, context, reply, need_weights=False):
        logits, _, maps = self.whole(reply, *self.read(context))
        return (logits, maps) if need_weights else logits

    def generate(self, cross, mask, steps):
        written = torch.full((cross.size(2), steps + 1), PAD)
        written[:, 0] = START
        with torch.inference_mode():
            for row in range(len(written)):
                own = cross[:, :, row : row + 1], mask[row : row + 1]
                for place in range(steps):
                    logits = self.whole(written[row : row + 1, : place + 1], *own)[0][0, -1]
                    logits[:END] = -torch.inf
                    written[row, place + 1] = logits.argmax()
                    if written[row, place + 1] == END:
                        break
        return written[:, 1:].clone()
