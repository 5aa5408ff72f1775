"""Torch's fused attention where nobody asks for the maps; parts in small modules of their own."""


# %% p04_solution_mask
def mask_tokens(ids, special, mask_id, vocab_size, share=0.15):
    fate = torch.rand(ids.shape) / share  # below 1 for the chosen ones
    fate = torch.where(special, torch.ones(()), fate)
    inputs = ids.masked_fill(fate < 0.8, mask_id)
    swapped = (fate >= 0.8) & (fate < 0.9)
    inputs = inputs.masked_scatter(swapped, torch.randint(vocab_size, ids.shape))
    return inputs, ids.masked_fill(fate >= 1, -100)


# %% p04_solution_bert
class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config, D = config, config.hidden_size
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            self.add_module(name, nn.Linear(D, D))
        self.attention_norm = nn.LayerNorm(D, config.layer_norm_eps)
        self.up, self.gelu = nn.Linear(D, config.intermediate_size), nn.GELU()
        self.down = nn.Linear(config.intermediate_size, D)
        self.output_norm = nn.LayerNorm(D, config.layer_norm_eps)
        self.drop = nn.Dropout(config.hidden_dropout_prob)

    def heads(self, x):
        B, T, D = x.shape
        return x.view(B, T, self.config.num_attention_heads, -1).permute(0, 2, 1, 3)

    def weights(self, x, mask):
        q, k = self.heads(self.q_proj(x)), self.heads(self.k_proj(x))
        scores = q @ k.mT * q.shape[-1] ** -0.5
        return torch.where(mask, scores, -math.inf).softmax(-1).nan_to_num(0.0)

    def forward(self, x, mask):
        B, T, D = x.shape
        q, k, v = (self.heads(layer(x)) for layer in (self.q_proj, self.k_proj, self.v_proj))
        p = self.config.attention_probs_dropout_prob if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
        out = out.permute(0, 2, 1, 3).reshape(B, T, D)
        x = self.attention_norm(self.drop(self.out_proj(out)) + x)
        return self.output_norm(self.drop(self.down(self.gelu(self.up(x)))) + x)


class Bert(nn.Module):
    def __init__(self, config):
        super().__init__()
        if config.hidden_size % config.num_attention_heads != 0:
            raise ValueError("heads")
        self.config = config
        tables = {
            "words": config.vocab_size,
            "positions": config.max_position_embeddings,
            "segments": config.type_vocab_size,
        }
        for name, size in tables.items():
            self.add_module(name, nn.Embedding(size, config.hidden_size))
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.drop = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList()
        for _ in range(config.num_hidden_layers):
            self.layers.append(Layer(config))
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                parameter.data.normal_(std=0.02)
            elif name.endswith("bias"):
                parameter.data.zero_()

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, need_weights=False):
        B, T = input_ids.shape
        if T > self.config.max_position_embeddings:
            raise ValueError("length")
        x = self.words(input_ids) + self.positions(torch.arange(T).expand(B, T))
        x = x + self.segments(
            torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        )
        x = self.drop(self.norm(x))
        mask = torch.ones(B, T) if attention_mask is None else attention_mask
        mask = (mask == 1).view(B, 1, 1, T).expand(B, 1, T, T)
        maps = []
        for layer in self.layers:
            if need_weights:
                maps.append(layer.weights(x, mask))
            x = layer(x, mask)
        pooled = self.pooler(x.select(1, 0)).tanh()
        if need_weights:
            return x, pooled, torch.stack(maps)
        return x, pooled


# %% p04_solution_classifier
class BERTClassifier(nn.Module):
    def __init__(self, bert_model, num_classes):
        super().__init__()
        self.bert, width = bert_model, bert_model.config.hidden_size
        self.classifier = nn.Linear(width, num_classes)
        self.drop = nn.Dropout(p=bert_model.config.hidden_dropout_prob)

    def forward(self, input_ids, attention_mask=None, token_type_ids=None):
        keywords = {"attention_mask": attention_mask, "token_type_ids": token_type_ids}
        return self.classifier(self.drop(self.bert(input_ids, **keywords)[1]))
