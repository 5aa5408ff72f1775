"""Einsum attention, a full pass without a cache, filters by loops, a preallocated text."""


# %% p10_solution_model
def split(x, heads):
    return x.reshape(*x.shape[:2], heads, -1)  # (B, T, H, Dh)


class Block(nn.Module):
    def __init__(self, d_model, nhead):
        super().__init__()
        self.nhead = nhead
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            self.add_module(name, nn.Linear(d_model, d_model))
        self.up, self.down = nn.Linear(d_model, d_model * 4), nn.Linear(d_model * 4, d_model)
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)

    def forward(self, x, past=None):
        normed = self.norm1(x)
        q = split(self.q_proj(normed), self.nhead)
        k = split(self.k_proj(normed), self.nhead)
        v = split(self.v_proj(normed), self.nhead)
        if past is not None:
            k = torch.cat([past[0].transpose(1, 2), k], dim=1)
            v = torch.cat([past[1].transpose(1, 2), v], dim=1)
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5
        first = k.shape[1] - q.shape[1]
        late = torch.arange(k.shape[1])[None] > torch.arange(q.shape[1])[:, None] + first
        peak = scores.detach().masked_fill(late, -1e30).amax(-1, keepdim=True)
        raised = (scores - peak).clamp(max=0).exp() * ~late
        weights = raised / raised.sum(-1, keepdim=True)
        x = self.out_proj(torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2)) + x
        inner = self.up(self.norm2(x))
        bent = 0.5 * inner * (1 + torch.tanh((2 / math.pi) ** 0.5 * (inner + 0.044715 * inner**3)))
        kept = torch.stack([k.transpose(1, 2), v.transpose(1, 2)])
        return x + self.down(bent), kept, weights


class AttentionGenerator(nn.Module):
    def __init__(self, vocab_size, d_model, nhead, num_layers=2, context=64):
        super().__init__()
        if d_model // nhead * nhead != d_model:
            raise ValueError("the heads have to divide the width")
        self.words = nn.Embedding(vocab_size, d_model)
        self.positions = nn.Embedding(context, d_model)
        self.layers, self.norm = nn.ModuleList(), nn.LayerNorm(d_model)
        for _ in range(num_layers):
            self.layers.append(Block(d_model, nhead))
        self.apply(self.start)
        for block in self.layers:
            for linear in (block.out_proj, block.down):
                nn.init.normal_(linear.weight, 0, 0.02 * (2 * num_layers) ** -0.5)

    @staticmethod
    def start(module):
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, 0, 0.02)
        if isinstance(module, nn.Linear):
            module.bias.data.zero_()

    def run(self, tokens, cache):
        begin = 0 if cache is None else cache.shape[4]
        places = torch.arange(begin, begin + tokens.shape[1])
        if places[-1] >= self.positions.num_embeddings:
            raise ValueError("the text is longer than the context")
        x, kept, maps = self.words(tokens) + self.positions(places), [], []
        for number, block in enumerate(self.layers):
            x, pair, weights = block(x, None if cache is None else cache[number])
            kept.append(pair)
            maps.append(weights)
        return torch.einsum("btd,vd->btv", self.norm(x), self.words.weight), kept, maps

    def forward(self, tokens, need_weights=False):
        logits, _, maps = self.run(tokens, None)
        return (logits, torch.stack(maps)) if need_weights else logits

    def step(self, tokens, cache=None):
        logits, kept, _ = self.run(tokens, cache)
        return logits, torch.stack(kept)

    @torch.no_grad()
    def generate(
        self, prompt, steps, temperature=1.0, top_k=None, top_p=None, seed=0, use_cache=True
    ):
        context, begin = self.positions.num_embeddings, prompt.shape[1]
        text = torch.zeros(len(prompt), begin + steps, dtype=torch.long)
        text[:, :begin] = prompt
        source = torch.Generator()
        source.manual_seed(seed)
        cache = None
        for place in range(begin, begin + steps):
            if use_cache and place <= context and cache is not None:
                logits, cache = self.step(text[:, place - 1 : place], cache)
            else:
                logits, cache = self.step(text[:, max(0, place - context) : place])
            chances = next_distribution(logits[:, -1], temperature, top_k, top_p)
            text[:, place] = torch.multinomial(chances, 1, generator=source)[:, 0]
        return text


# %% p10_solution_sampling
def row_distribution(row, temperature, top_k, top_p):
    order = row.argsort(descending=True)
    result = torch.zeros_like(row)
    if temperature == 0:
        result[order[0]] = 1
        return result
    order = order[: len(row) if top_k is None else top_k]
    share = ((row[order] - row[order[0]]) / temperature).exp()
    share = share / share.sum()
    keep, total = 1, share[0].item()
    while top_p is not None and keep < len(share) and total < top_p:
        total += share[keep].item()
        keep += 1
    if top_p is None:
        keep = len(share)
    result[order[:keep]] = share[:keep] / share[:keep].sum()
    return result


def next_distribution(logits, temperature=1.0, top_k=None, top_p=None):
    rows = logits.reshape(-1, logits.shape[-1])
    found = [row_distribution(row, temperature, top_k, top_p) for row in rows]
    return torch.stack(found).reshape(logits.shape)


def next_token_loss(model, tokens):
    logs = model(tokens[:, :-1]).log_softmax(-1)
    return -logs.gather(-1, tokens[:, 1:, None]).mean()
