"""Torch's fused attention, a tied output layer, filters on scores, weights only where asked for."""


# %% p10_solution_model
class Block(nn.Module):
    def __init__(self, d_model, nhead):
        super().__init__()
        self.shape = (nhead, d_model // nhead)
        self.norm1 = nn.LayerNorm(d_model)
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, d_model)
        self.v_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)
        self.norm2 = nn.LayerNorm(d_model)
        self.up = nn.Linear(d_model, 4 * d_model)
        self.down = nn.Linear(4 * d_model, d_model)
        self.gelu = nn.GELU(approximate="tanh")

    def look(self, x, past):
        normed = self.norm1(x)
        q, k, v = (
            layer(normed).view(*x.shape[:2], *self.shape).movedim(2, 1)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        if past is not None:
            k, v = (torch.cat(pair, dim=2) for pair in zip(past, (k, v), strict=True))
        length = k.shape[2]
        allowed = ~torch.ones(length, length, dtype=torch.bool).triu(1)[length - x.shape[1] :]
        return q, k, v, allowed

    def forward(self, x, past=None):
        q, k, v, allowed = self.look(x, past)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        x = x + self.out_proj(seen.movedim(1, 2).flatten(2))
        return x + self.down(self.gelu(self.up(self.norm2(x)))), torch.stack((k, v))

    def weights(self, x):
        q, k, _, allowed = self.look(x, None)
        bias = torch.zeros(allowed.shape, dtype=q.dtype).masked_fill(~allowed, -math.inf)
        return torch.softmax(q @ k.mT * self.shape[1] ** -0.5 + bias, dim=-1)


class AttentionGenerator(nn.Module):
    def __init__(self, vocab_size, d_model, nhead, num_layers=2, context=64):
        super().__init__()
        if d_model % nhead != 0:
            raise ValueError(f"a width of {d_model} cannot be cut into {nhead} heads")
        self.words = nn.Embedding(vocab_size, d_model)
        self.positions = nn.Embedding(context, d_model)
        self.layers = nn.ModuleList([Block(d_model, nhead) for _ in range(num_layers)])
        self.norm = nn.LayerNorm(d_model)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight.data.normal_(0.0, 0.02)
            if isinstance(module, nn.Linear):
                module.bias.data.fill_(0.0)
        for name, parameter in self.named_parameters():
            if name.endswith(("out_proj.weight", "down.weight")):
                parameter.data.div_((2 * num_layers) ** 0.5)
        self.head = nn.Linear(d_model, vocab_size, bias=False)
        self.head.weight = self.words.weight

    def places(self, tokens, begin=0):
        end = begin + tokens.shape[1]
        if end > len(self.positions.weight):
            raise ValueError(f"{end} tokens are too many")
        return self.words(tokens) + self.positions.weight[begin:end]

    def forward(self, tokens, need_weights=False):
        x, maps = self.places(tokens), []
        for block in self.layers:
            maps.append(block.weights(x) if need_weights else None)
            x, _ = block(x)
        logits = self.head(self.norm(x))
        return (logits, torch.stack(maps)) if need_weights else logits

    def step(self, tokens, cache=None):
        x, kept = self.places(tokens, 0 if cache is None else cache.size(-2)), []
        for number, block in enumerate(self.layers):
            x, pair = block(x, None if cache is None else cache[number])
            kept.append(pair)
        return self.head(self.norm(x)), torch.stack(kept)

    def generate(
        self, prompt, steps, temperature=1.0, top_k=None, top_p=None, seed=0, use_cache=True
    ):
        generator, context = torch.Generator().manual_seed(seed), len(self.positions.weight)
        cache, unread = None, prompt[:, -context:]
        with torch.inference_mode():
            for _ in range(steps):
                if use_cache:
                    logits, cache = self.step(unread, cache)
                else:
                    logits = self(prompt[:, -context:])
                chances = next_distribution(logits[:, -1], temperature, top_k, top_p)
                prompt = torch.cat([prompt, torch.multinomial(chances, 1, generator=generator)], 1)
                unread = prompt[:, -1:]
                if cache is not None and cache.size(-2) == context:
                    cache, unread = None, prompt[:, -context:]
        return prompt.clone()


# %% p10_solution_sampling
def next_distribution(logits, temperature=1.0, top_k=None, top_p=None):
    if temperature == 0:
        top_k, temperature = 1, 1.0
    logits = logits.div(temperature)
    ranked, order = logits.sort(dim=-1, descending=True)
    drop = torch.zeros_like(ranked, dtype=torch.bool)
    if top_k is not None:
        drop[..., top_k:] = True
    if top_p is not None:
        share = ranked.masked_fill(drop, -math.inf).softmax(-1)
        drop[..., 1:] |= share.cumsum(-1)[..., :-1] >= top_p
    ranked = ranked.masked_fill(drop, -math.inf)
    return torch.full_like(logits, -math.inf).scatter(-1, order, ranked).softmax(-1)


def next_token_loss(model, tokens):
    return F.cross_entropy(model(tokens[:, :-1]).transpose(1, 2), tokens[:, 1:])
