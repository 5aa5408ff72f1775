"""Einsum attention, masks as numbers that are added, one stack of caches filled in a loop."""


# %% p06_solution_attention
class CrossAttention(nn.Module):
    def __init__(self, d_model, nhead):
        super().__init__()
        self.split = (nhead, d_model // nhead)
        if nhead * self.split[1] != d_model:
            raise ValueError("a head has a whole number of columns")
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            self.add_module(name, nn.Linear(d_model, d_model))

    def heads(self, project, x):
        return project(x).unflatten(-1, self.split).permute(0, 2, 1, 3)  # (B, H, T, Dh)

    def keys_values(self, memory):
        return torch.stack((self.heads(self.k_proj, memory), self.heads(self.v_proj, memory)))

    def forward(self, x, keys_values, mask):
        q = self.heads(self.q_proj, x) * self.split[1] ** -0.5
        scores = torch.einsum("bhqd,bhkd->bhqk", q, keys_values[0])
        peak = scores.detach().masked_fill(~mask, -1e30).amax(dim=-1, keepdim=True)
        raised = (scores - peak).clamp(max=0).exp() * mask
        total = raised.sum(dim=-1, keepdim=True)
        weights = raised / total.masked_fill(total == 0, 1)
        out = torch.einsum("bhqk,bhkd->bqhd", weights, keys_values[1])
        return self.out_proj(out.flatten(2)), weights


# %% p06_solution_layers
def feed_forward(layer, x):
    return layer.down(F.relu(layer.up(x)))


class EncoderLayer(nn.Module):
    def __init__(self, d_model, nhead):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.self_attn = CrossAttention(d_model, nhead)
        self.up, self.down = nn.Linear(d_model, d_model * 2), nn.Linear(d_model * 2, d_model)

    def forward(self, x, mask):
        read = self.norm1(x)
        x = self.self_attn(read, self.self_attn.keys_values(read), mask)[0] + x
        return feed_forward(self, self.norm2(x)) + x


class DecoderLayer(EncoderLayer):
    def __init__(self, d_model, nhead):
        super().__init__(d_model, nhead)
        self.norm3 = nn.LayerNorm(d_model)
        self.cross_attn = CrossAttention(d_model, nhead)

    def forward(self, y, cache, cross, mask):
        read = self.norm1(y)
        cache = torch.cat((cache, self.self_attn.keys_values(read)), dim=3)
        keys = torch.arange(cache.shape[3])
        earlier = keys <= keys[-y.shape[1] :, None]  # (T, S + T)
        y = self.self_attn(read, cache, earlier)[0] + y
        seen, weights = self.cross_attn(self.norm2(y), cross, mask)
        y = y + seen
        return feed_forward(self, self.norm3(y)) + y, cache, weights


# %% p06_solution_model
class CrossAttentionGenerator(nn.Module):
    def __init__(self, d_model, nhead, vocab_size=WORDS, num_layers=2):
        super().__init__()
        self.width = d_model
        self.words = nn.Embedding(vocab_size, d_model)
        with torch.no_grad():
            self.words.weight.div_(math.sqrt(d_model))
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for _ in range(num_layers):
            self.encoder.append(EncoderLayer(d_model, nhead))
            self.decoder.append(DecoderLayer(d_model, nhead))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(d_model), nn.LayerNorm(d_model)

    def read(self, context):
        mask = context.ne(PAD).view(len(context), 1, 1, -1)
        x = self.words(context) * self.width**0.5 + positions(from_end(context), self.width)
        for layer in self.encoder:
            x = layer(x, mask)
        x = self.encoder_norm(x)
        return torch.stack([layer.cross_attn.keys_values(x) for layer in self.decoder]), mask

    def attend(self, tokens, cross, mask, cache):
        L, _, B, H, _, Dh = cross.shape
        if cache is None:
            cache = cross.new_zeros(L, 2, B, H, 0, Dh)
        places = torch.arange(tokens.shape[1]) + cache.shape[4]
        y = self.words(tokens) * self.width**0.5 + positions(places, self.width)
        kept, seen = [], []
        for number, layer in enumerate(self.decoder):
            y, longer, weights = layer(y, cache[number], cross[number], mask)
            kept, seen = [*kept, longer], [*seen, weights]
        logits = torch.einsum("btd,vd->btv", self.decoder_norm(y), self.words.weight)
        return logits, torch.stack(kept), torch.stack(seen)

    def step(self, tokens, cross, mask, cache=None):
        return self.attend(tokens, cross, mask, cache)[:2]

    def forward(self, context, reply, need_weights=False):
        logits, _, weights = self.attend(reply, *self.read(context), None)
        return (logits, weights) if need_weights else logits

    @torch.no_grad()
    def generate(self, cross, mask, steps):
        written = cross.new_full((cross.shape[2], 1), START, dtype=torch.long)
        cache = None
        for _ in range(steps):
            logits, cache = self.step(written[:, -1:], cross, mask, cache)
            best = logits[:, 0, END:].argmax(dim=-1, keepdim=True) + END
            over = (written == END).any(dim=1, keepdim=True)
            written = torch.cat([written, torch.where(over, PAD, best)], dim=1)
        return written[:, 1:]
