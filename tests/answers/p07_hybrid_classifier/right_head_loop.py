"""A loop over heads, and the stem as functions of the parameters."""


# %% p07_solution_layer
class AttentionLayer(nn.Module):
    def __init__(self, hidden_size, num_heads):
        super().__init__()
        if hidden_size % num_heads != 0:
            raise ValueError("the heads do not fit")
        self.heads = num_heads
        self.norm1 = nn.LayerNorm(hidden_size)
        self.norm2 = nn.LayerNorm(hidden_size)
        self.q_proj = nn.Linear(hidden_size, hidden_size)
        self.k_proj = nn.Linear(hidden_size, hidden_size)
        self.v_proj = nn.Linear(hidden_size, hidden_size)
        self.out_proj = nn.Linear(hidden_size, hidden_size)
        self.linear1 = nn.Linear(hidden_size, hidden_size * 2)
        self.linear2 = nn.Linear(hidden_size * 2, hidden_size)

    def forward(self, x):
        normed = self.norm1(x)
        parts = [p(normed).chunk(self.heads, -1) for p in (self.q_proj, self.k_proj, self.v_proj)]
        outs, maps = [], []
        for q, k, v in zip(*parts, strict=True):
            weights = torch.softmax(torch.bmm(q, k.mT) * q.shape[-1] ** -0.5, -1)
            outs.append(torch.bmm(weights, v))
            maps.append(weights)
        x = x + self.out_proj(torch.cat(outs, -1))
        x = x + self.linear2(F.relu(self.linear1(self.norm2(x))))
        return x, torch.stack(maps, 1)


# %% p07_solution_model
class AttentionClassifier(nn.Module):
    def __init__(self, num_classes, hidden_size, num_heads, num_layers=2):
        super().__init__()
        self.conv1 = nn.Conv2d(1, hidden_size // 4, 3, 1, 1)
        self.conv2 = nn.Conv2d(hidden_size // 4, hidden_size, 3, 2, 1)
        self.conv3 = nn.Conv2d(hidden_size, hidden_size, 3, 2, 1)
        self.layers = nn.ModuleList()
        for _ in range(num_layers):
            self.layers.append(AttentionLayer(hidden_size, num_heads))
        self.norm = nn.LayerNorm(hidden_size)
        self.head = nn.Linear(hidden_size, num_classes)

    def tokens(self, images):
        x = images
        for conv, stride in ((self.conv1, 1), (self.conv2, 2), (self.conv3, 2)):
            x = F.conv2d(x, conv.weight, conv.bias, stride, 1)
            x = x if conv is self.conv3 else F.relu(x)
        rows = x.movedim(1, -1)  # (B, rows, columns, D)
        return rows.reshape(len(x), -1, x.shape[1])

    def forward(self, images, need_weights=False):
        if images.ndim != 4 or images.size(1) != 1:
            raise ValueError("expected (B, 1, height, width)")
        x = self.tokens(images)
        found = []
        for layer in self.layers:
            x, weights = layer(x)
            found.append(weights)
        pooled = self.norm(x).sum(1) / x.shape[1]
        logits = self.head(pooled)
        if need_weights:
            return logits, torch.stack(found, 0)
        return logits
