"""Einsum over all heads, norms by their formula, convolutions by unfolding."""


# %% p07_solution_layer
class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        x = x - x.mean(-1, keepdim=True)
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * self.weight + self.bias


class AttentionLayer(nn.Module):
    def __init__(self, hidden_size, num_heads):
        super().__init__()
        self.head_width = hidden_size // num_heads
        if self.head_width * num_heads != hidden_size:
            raise ValueError("the heads do not fit")
        for name in ("q", "k", "v", "out"):
            self.add_module(f"{name}_proj", nn.Linear(hidden_size, hidden_size))
        self.norm1, self.norm2 = Norm(hidden_size), Norm(hidden_size)
        self.linear1 = nn.Linear(hidden_size, 2 * hidden_size)
        self.linear2 = nn.Linear(2 * hidden_size, hidden_size)

    def forward(self, x):
        y = self.norm1(x)
        q, k, v = (
            getattr(self, f"{name}_proj")(y).unflatten(-1, (-1, self.head_width)) for name in "qkv"
        )
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * self.head_width**-0.5
        powers = (scores - scores.amax(-1, keepdim=True)).exp()
        weights = powers / powers.sum(-1, keepdim=True)
        x = x + self.out_proj(torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2))
        return x + self.linear2(self.linear1(self.norm2(x)).clamp(min=0)), weights


# %% p07_solution_model
class AttentionClassifier(nn.Module):
    def __init__(self, num_classes, hidden_size, num_heads, num_layers=2):
        super().__init__()
        narrow = hidden_size // 4
        self.conv1 = nn.Conv2d(1, narrow, 3, padding=1)
        self.conv2 = nn.Conv2d(narrow, hidden_size, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(hidden_size, hidden_size, 3, stride=2, padding=1)
        layers = [AttentionLayer(hidden_size, num_heads) for _ in range(num_layers)]
        self.layers = nn.ModuleList(layers)
        self.norm, self.head = Norm(hidden_size), nn.Linear(hidden_size, num_classes)

    def tokens(self, images):
        B, C, height, width = images.shape
        if C != 1:
            raise ValueError("expected images in grey")
        x = images
        for conv in (self.conv1, self.conv2, self.conv3):
            step = conv.stride[0]
            height, width = -(-height // step), -(-width // step)
            patches = F.unfold(x, 3, padding=1, stride=step)  # (B, 9 * C, places)
            x = conv.weight.flatten(1) @ patches + conv.bias[:, None]
            x = x.view(B, -1, height, width)
            if conv is not self.conv3:
                x = x.clamp(min=0)
        return x.permute(0, 2, 3, 1).flatten(1, 2)

    def forward(self, images, need_weights=False):
        x, maps = self.tokens(images), []
        for layer in self.layers:
            x, weights = layer(x)
            maps += [weights]
        logits = self.head(self.norm(x)).mean(1)  # the mean of logits is that of the mean
        return (logits, torch.stack(maps)) if need_weights else logits
