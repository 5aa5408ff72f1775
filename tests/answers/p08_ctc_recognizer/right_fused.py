"""A strided convolution for patches, fused attention, and the loss as matrix products."""


# %% p08_solution_front
def log_mel(audio, lengths):
    """Frames by unfold, a Fourier transform of each, clip by clip."""
    window = torch.hann_window(WINDOW + 1, periodic=False, dtype=audio.dtype)[:-1]
    pieces = audio.unfold(1, WINDOW, HOP) * window  # (B, F, WINDOW)
    spectrum = torch.fft.rfft(pieces, dim=-1)
    power = spectrum.real**2 + spectrum.imag**2
    logs = torch.log(power @ FILTERS.to(audio.dtype) + FLOOR)
    frames = torch.div(lengths - WINDOW, HOP, rounding_mode="floor") + 1
    features = torch.zeros_like(logs)
    for row, count in enumerate(frames.tolist()):
        own = logs[row, :count]
        variance, mean = torch.var_mean(own, dim=0, correction=0)
        features[row, :count] = (own - mean) * torch.rsqrt(variance + FLOOR)
    return features, frames


# %% p08_solution_model
class Layer(nn.Module):
    def __init__(self, hidden_size, num_heads):
        super().__init__()
        self.heads = num_heads
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, nn.Linear(hidden_size, hidden_size))
        self.norm1 = nn.LayerNorm(hidden_size)
        self.norm2 = nn.LayerNorm(hidden_size)
        self.up = nn.Linear(hidden_size, 2 * hidden_size)
        self.down = nn.Linear(2 * hidden_size, hidden_size)

    def cut(self, x):
        return x.view(*x.shape[:2], self.heads, -1).movedim(2, 1)

    def forward(self, x, mask, need_weights=False):
        y = self.norm1(x)
        q, k, v = (self.cut(layer(y)) for layer in (self.q_proj, self.k_proj, self.v_proj))
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        weights = None
        if need_weights:
            bias = torch.zeros(mask.shape, dtype=q.dtype).masked_fill(~mask, -math.inf)
            weights = torch.softmax(q @ k.mT * q.shape[-1] ** -0.5 + bias, dim=-1)
        x = x + self.out_proj(seen.movedim(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x)))), weights


class AttentionASR(nn.Module):
    def __init__(self, vocab_size, hidden_size, num_heads, num_layers=3):
        super().__init__()
        if hidden_size % num_heads != 0:
            raise ValueError(f"a width of {hidden_size} cannot be cut into {num_heads} heads")
        self.patch = nn.Linear(PATCH * MELS, hidden_size)
        self.layers = nn.ModuleList([Layer(hidden_size, num_heads) for _ in range(num_layers)])
        self.norm = nn.LayerNorm(hidden_size)
        self.out = nn.Linear(hidden_size, vocab_size)

    def forward(self, audio, lengths, need_weights=False):
        for length in lengths.tolist():
            if length < WINDOW + (PATCH - 1) * HOP:
                raise ValueError(f"a clip of {length} samples has no token")
        features, frames = log_mel(audio, lengths)
        kernel = self.patch.weight.view(-1, PATCH, MELS).transpose(1, 2)
        x = F.conv1d(features.transpose(1, 2), kernel, self.patch.bias, stride=PATCH)
        x = x.transpose(1, 2)  # (B, T, D)
        x = x + positions(x.shape[1], x.shape[2]).to(x)
        tokens = torch.div(frames, PATCH, rounding_mode="floor")
        mask = torch.arange(x.shape[1])[None, :] < tokens[:, None]
        mask = mask[:, None, None, :]
        maps = []
        for layer in self.layers:
            x, weights = layer(x, mask, need_weights)
            maps.append(weights)
        log_probs = F.log_softmax(self.out(self.norm(x)), dim=2)
        if need_weights:
            return log_probs, tokens, torch.stack(maps)
        return log_probs, tokens


# %% p08_solution_ctc
def ctc_loss(log_probs, lengths, targets, target_lengths):
    """Probabilities go from state to state by a matrix; each step is scaled to a sum of 1."""
    (B, T, _), S = log_probs.shape, targets.shape[1]
    states = torch.zeros(B, 2 * S + 1, dtype=torch.long)
    states[:, 1::2] = targets
    size = 2 * S + 1
    goes = torch.eye(size, dtype=torch.float64) + torch.eye(size, dtype=torch.float64).roll(1, 1)
    goes[-1, 0] = 1.0 if size == 1 else 0.0
    if size == 1:
        goes = torch.ones(1, 1, dtype=torch.float64)
    goes = goes.repeat(B, 1, 1)
    for row in range(B):
        for place in range(1, S):
            if targets[row, place] != targets[row, place - 1]:
                goes[row, 2 * place - 1, 2 * place + 1] = 1
    chances = log_probs.double().exp().gather(2, states[:, None].repeat(1, T, 1))
    alpha = chances[:, 0] * (torch.arange(size) < 2)
    rows = torch.arange(B)
    total, logs = torch.zeros(B, dtype=torch.float64), []
    kept = []
    for t in range(T):
        if t:
            alpha = torch.einsum("bs,bsz->bz", alpha, goes) * chances[:, t]
        scale = alpha.sum(dim=1)
        alpha = alpha / scale[:, None]
        total = total + scale.log()
        logs.append(total)
        kept.append(alpha)
    at = lengths - 1
    last, logs = torch.stack(kept, 1)[rows, at], torch.stack(logs, 1)[rows, at]
    place = torch.arange(size)
    ends = (place == 2 * target_lengths[:, None]) | (place == 2 * target_lengths[:, None] - 1)
    return -((last * ends).sum(dim=1).log() + logs).to(log_probs.dtype)


# %% p08_solution_decoding
def greedy_decode(log_probs, lengths):
    found = []
    for row, length in zip(log_probs, lengths.tolist(), strict=True):
        letters, before = [], BLANK
        for number in row[:length].max(dim=-1).indices.tolist():
            if number not in (before, BLANK):
                letters.append(number)
            before = number
        found.append(letters)
    return found


def beam_decode(log_probs, lengths, width):
    found = []
    for rows, length in zip(log_probs.double(), lengths.tolist(), strict=True):
        # Probabilities, scaled at each token, by (prefix, whether the path ends in a blank).
        beams, scaled = {((), True): 1.0}, 0.0
        for row in rows[:length].exp().tolist():
            longer = {}
            for (prefix, blank), chance in beams.items():
                for number, share in enumerate(row):
                    if number == BLANK:
                        key = prefix, True
                    elif not blank and prefix[-1] == number:
                        key = prefix, False
                    else:
                        key = (*prefix, number), False
                    longer[key] = longer.get(key, 0.0) + chance * share
            sums = {}
            for (prefix, _), chance in longer.items():
                sums[prefix] = sums.get(prefix, 0.0) + chance
            kept = set(sorted(sums, key=sums.get, reverse=True)[:width])
            whole = sum(sums[prefix] for prefix in kept)
            scaled += math.log(whole)
            beams = {key: chance / whole for key, chance in longer.items() if key[0] in kept}
        best = max(kept, key=sums.get)
        found.append((list(best), math.log(sums[best] / whole) + scaled))
    return found
