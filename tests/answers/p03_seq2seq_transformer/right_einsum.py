"""Einsum attention, positions by loops, and searches that call the whole model for each text."""


# %% p03_solution_layers
class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, num_heads):
        super().__init__()
        self.split = (num_heads, d_model // num_heads)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            self.add_module(name, nn.Linear(d_model, d_model))

    def forward(self, q, k, v, mask=None, need_weights=False):
        q = self.q_proj(q).unflatten(-1, self.split)  # (B, Tq, H, Dh)
        k = self.k_proj(k).unflatten(-1, self.split)  # (B, Tk, H, Dh)
        v = self.v_proj(v).unflatten(-1, self.split)
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * self.split[1] ** -0.5
        if mask is None:
            mask = torch.ones(scores.shape[-1], dtype=torch.bool)
        peak = scores.detach().masked_fill(~mask, -1e30).amax(dim=-1, keepdim=True)
        raised = (scores - peak).clamp(max=0).exp() * mask
        total = raised.sum(dim=-1, keepdim=True)
        weights = raised / total.masked_fill(total == 0, 1)
        out = self.out_proj(torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2))
        return (out, weights) if need_weights else out


def feed_forward(layer, x):
    return layer.linear2(F.relu(layer.linear1(x)))


class EncoderLayer(nn.Module):
    def __init__(self, d_model, nhead):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.linear1, self.linear2 = (
            nn.Linear(d_model, d_model * 2),
            nn.Linear(d_model * 2, d_model),
        )
        self.self_attn = MultiHeadAttention(d_model, nhead)

    def forward(self, x, mask=None):
        x = self.self_attn(*[self.norm1(x)] * 3, mask=mask) + x
        return feed_forward(self, self.norm2(x)) + x


class DecoderLayer(EncoderLayer):
    def __init__(self, d_model, nhead):
        super().__init__(d_model, nhead)
        self.norm3 = nn.LayerNorm(d_model)
        self.cross_attn = MultiHeadAttention(d_model, nhead)

    def forward(self, y, memory, self_mask=None, cross_mask=None, need_weights=False):
        y = self.self_attn(*[self.norm1(y)] * 3, mask=self_mask) + y
        out, weights = self.cross_attn(self.norm2(y), memory, memory, cross_mask, need_weights=True)
        y = y + out
        y = feed_forward(self, self.norm3(y)) + y
        return (y, weights) if need_weights else y


# %% p03_solution_model
def positions(length, d_model):
    rows = []
    for place in range(length):
        row = []
        for column in range(0, d_model, 2):
            angle = place / math.pow(100, column / d_model)
            row += [math.sin(angle), math.cos(angle)]
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float32)


class TransformerModel(nn.Module):
    def __init__(self, vocab_size, d_model, nhead, num_layers):
        super().__init__()
        self.width = d_model
        self.embedding = nn.Embedding(vocab_size, d_model)
        with torch.no_grad():
            self.embedding.weight.div_(math.sqrt(d_model))
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for _ in range(num_layers):
            self.encoder.append(EncoderLayer(d_model, nhead))
            self.decoder.append(DecoderLayer(d_model, nhead))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(d_model), nn.LayerNorm(d_model)

    def embed(self, tokens):
        place = positions(tokens.size(1), self.width)
        return self.width**0.5 * self.embedding(tokens) + place

    def forward(self, src, tgt, need_weights=False):
        x, y = self.embed(src), self.embed(tgt)
        padding = src.ne(PAD).view(len(src), 1, 1, -1)
        places = torch.arange(tgt.size(1))
        for layer in self.encoder:
            x = layer(x, padding)
        x, seen = self.encoder_norm(x), []
        for layer in self.decoder:
            y, weights = layer(y, x, places[:, None] >= places, padding, need_weights=True)
            seen.append(weights)
        logits = torch.einsum("btd,vd->btv", self.decoder_norm(y), self.embedding.weight)
        return (logits, torch.stack(seen)) if need_weights else logits


# %% p03_solution_search
def sequence_loss(model, src, tgt):
    scored = tgt[:, 1:]
    logs = model(src, tgt[:, :-1]).log_softmax(-1)
    right = logs.gather(-1, scored[..., None])[..., 0]
    return -right[scored != PAD].mean()


def candidates(model, row, steps, width):
    """Search one text with a list of (score, tokens), the best first."""
    beam = [(0.0, [START])]
    for _ in range(steps):
        grown = []
        for score, tokens in beam:
            if tokens[-1] in (END, PAD):
                grown.append((score, [*tokens, PAD]))
                continue
            logs = model(row[None], torch.tensor([tokens]))[0, -1].log_softmax(-1).tolist()
            grown += [(score + logs[n], [*tokens, n]) for n in range(END, len(logs))]
        beam = sorted(grown, key=lambda item: -item[0])[:width]
    return beam[0][1][1:]


@torch.no_grad()
def beam_decode(model, src, steps, width):
    return torch.tensor([candidates(model, row, steps, width) for row in src])


@torch.no_grad()
def greedy_decode(model, src, steps):
    tgt = src.new_full((len(src), 1), START)
    for _ in range(steps):
        best = model(src, tgt)[:, -1, END:].argmax(-1) + END
        over = (tgt == END).any(dim=1)
        tgt = torch.cat([tgt, torch.where(over, PAD, best)[:, None]], dim=1)
    return tgt[:, 1:]
