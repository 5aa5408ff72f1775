"""Einsum over all heads, penalties in place of a fill, GELU and norms by their formulas."""


# %% p04_solution_mask
def mask_tokens(ids, special, mask_id, vocab_size, share=0.15):
    chance = torch.full(ids.shape, share).masked_fill(special, 0.0)
    chosen = torch.bernoulli(chance).bool()
    fates = torch.tensor([0.8, 0.1, 0.1]).multinomial(ids.numel(), replacement=True)
    fates = fates.view(ids.shape)
    inputs, targets = ids.clone(), torch.full_like(ids, -100)
    targets[chosen] = ids[chosen]
    inputs[chosen & (fates == 0)] = mask_id
    swapped = chosen & (fates == 1)
    inputs[swapped] = torch.randint(0, vocab_size, (int(swapped.sum()),))
    return inputs, targets


# %% p04_solution_bert
class Norm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x):
        centred = x - x.mean(-1, keepdim=True)
        variance = centred.square().mean(-1, keepdim=True)
        return centred * (variance + self.eps).rsqrt() * self.weight + self.bias


def linear(into, out):
    layer = nn.Linear(into, out)
    layer.weight.data.normal_(0, 0.02)
    layer.bias.data.zero_()
    return layer


def table(rows, width):
    return nn.Embedding(rows, width, _weight=torch.randn(rows, width) * 0.02)


def block(config):
    D, inner = config.hidden_size, config.intermediate_size
    parts = {f"{name}_proj": linear(D, D) for name in ("q", "k", "v", "out")}
    parts |= {"up": linear(D, inner), "down": linear(inner, D)}
    parts |= {f"{name}_norm": Norm(D, config.layer_norm_eps) for name in ("attention", "output")}
    return nn.ModuleDict(parts)


class Bert(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        D, self.head_width = config.hidden_size, config.hidden_size // config.num_attention_heads
        if self.head_width * config.num_attention_heads != D:
            raise ValueError("the heads do not fit")
        self.words = table(config.vocab_size, D)
        self.positions = table(config.max_position_embeddings, D)
        self.segments = table(config.type_vocab_size, D)
        self.norm = Norm(D, config.layer_norm_eps)
        self.layers = nn.ModuleList([block(config) for _ in range(config.num_hidden_layers)])
        self.pooler = linear(D, D)

    def drop(self, x):
        return F.dropout(x, self.config.hidden_dropout_prob, self.training)

    def split(self, x):
        return x.unflatten(-1, (-1, self.head_width))  # (B, T, H, Dh)

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, need_weights=False):
        B, T = input_ids.shape
        if T > len(self.positions.weight):
            raise ValueError("the text is too long")
        if attention_mask is None:
            attention_mask = input_ids.new_ones(B, T)
        seen = (attention_mask > 0).to(self.words.weight.dtype)
        segments = (
            self.segments.weight[0] if token_type_ids is None else self.segments(token_type_ids)
        )
        x = self.words(input_ids) + segments + self.positions(torch.arange(T))
        x = self.drop(self.norm(x))
        maps = []
        for layer in self.layers:
            q, k, v = (self.split(layer[f"{name}_proj"](x)) for name in "qkv")
            scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / self.head_width**0.5
            scores = scores - scores.detach().amax(-1, keepdim=True)
            # Relative to the highest allowed score, so that no sum is lost in rounding.
            allowed = seen[:, None, None].bool()
            highest = scores.detach().masked_fill(~allowed, -1e30).amax(-1, keepdim=True)
            powers = ((scores - highest).clamp(max=0)).exp() * seen[:, None, None]
            total = powers.sum(-1, keepdim=True)
            weights = powers / total.masked_fill(total == 0, 1)
            maps += [weights]
            weights = F.dropout(weights, self.config.attention_probs_dropout_prob, self.training)
            out = torch.einsum("bhqk,bkhd->bqhd", weights, v).reshape(B, T, -1)
            x = layer["attention_norm"](x + self.drop(layer["out_proj"](out)))
            up = layer["up"](x)
            up = 0.5 * up * (1 + torch.erf(up / 2**0.5))
            x = layer["output_norm"](x + self.drop(layer["down"](up)))
        pooled = self.pooler(x).tanh()[:, 0]
        return (x, pooled) + ((torch.stack(maps),) if need_weights else ())


# %% p04_solution_classifier
class BERTClassifier(nn.Module):
    def __init__(self, bert_model, num_classes):
        super().__init__()
        self.bert = bert_model
        self.classifier = nn.Linear(bert_model.config.hidden_size, num_classes)

    def forward(self, input_ids, attention_mask=None, token_type_ids=None):
        pooled = self.bert(input_ids, attention_mask, token_type_ids)[1]
        pooled = F.dropout(pooled, self.bert.config.hidden_dropout_prob, self.training)
        return F.linear(pooled, self.classifier.weight, self.classifier.bias)
