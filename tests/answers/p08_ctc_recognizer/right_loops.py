"""One clip and one head at a time, a loss of letters and blanks, sums of numpy in the beam."""


# %% p08_solution_front
def log_mel(audio, lengths):
    frames = (lengths - WINDOW).div(HOP, rounding_mode="floor") + 1
    window = torch.hann_window(WINDOW).to(audio.dtype)
    window = 0.5 - 0.5 * torch.cos(torch.arange(WINDOW, dtype=audio.dtype) * 2 * math.pi / WINDOW)
    rows = []
    for clip, length in zip(audio, lengths.tolist(), strict=True):
        sound = torch.stft(
            clip[:length],
            n_fft=WINDOW,
            hop_length=HOP,
            win_length=WINDOW,
            window=window,
            center=False,
            onesided=True,
            return_complex=True,
        )
        logs = torch.log(
            FILTERS.T.to(audio.dtype) @ torch.view_as_real(sound).pow(2).sum(-1) + FLOOR
        )
        logs = logs - logs.mean(dim=1, keepdim=True)  # (MELS, F)
        rows.append((logs / (logs.pow(2).mean(dim=1, keepdim=True) + FLOOR) ** 0.5).T)
    most = (audio.shape[1] - WINDOW) // HOP + 1
    return torch.stack([F.pad(row, (0, 0, 0, most - len(row))) for row in rows]), frames


# %% p08_solution_model
class Layer(nn.Module):
    def __init__(self, hidden_size, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(hidden_size)
        self.norm2 = nn.LayerNorm(hidden_size)
        self.q_proj = nn.Linear(hidden_size, hidden_size)
        self.k_proj = nn.Linear(hidden_size, hidden_size)
        self.v_proj = nn.Linear(hidden_size, hidden_size)
        self.out_proj = nn.Linear(hidden_size, hidden_size)
        self.up = nn.Linear(hidden_size, 2 * hidden_size)
        self.down = nn.Linear(2 * hidden_size, hidden_size)

    def forward(self, x, mask):
        normed, outs, maps = self.norm1(x), [], []
        pieces = [
            layer(normed).chunk(self.num_heads, dim=-1)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        ]
        for q, k, v in zip(*pieces, strict=True):
            scores = torch.einsum("btd,bsd->bts", q, k) / q.shape[-1] ** 0.5
            weights = torch.exp(scores - scores.amax(dim=-1, keepdim=True)) * mask
            weights = weights / weights.sum(dim=-1, keepdim=True)
            outs.append(torch.einsum("bts,bsd->btd", weights, v))
            maps.append(weights)
        x = x + self.out_proj(torch.cat(outs, dim=-1))
        hidden = self.up(self.norm2(x))
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        return x + self.down(hidden), torch.stack(maps, dim=1)


class AttentionASR(nn.Module):
    def __init__(self, vocab_size, hidden_size, num_heads, num_layers=3):
        super().__init__()
        if hidden_size // num_heads * num_heads != hidden_size:
            raise ValueError("the width is no multiple of the heads")
        self.patch = nn.Linear(PATCH * MELS, hidden_size)
        self.layers = nn.ModuleList()
        for _ in range(num_layers):
            self.layers.append(Layer(hidden_size, num_heads))
        self.norm = nn.LayerNorm(hidden_size)
        self.out = nn.Linear(hidden_size, vocab_size)

    def forward(self, audio, lengths, need_weights=False):
        if (lengths < WINDOW + (PATCH - 1) * HOP).any():
            raise ValueError("a clip is shorter than a token")
        features, frames = log_mel(audio, lengths)
        T = features.shape[1] // PATCH
        tokens = frames.div(PATCH, rounding_mode="floor")
        x = self.patch(
            torch.cat([features[:, p : T * PATCH : PATCH] for p in range(PATCH)], dim=-1)
        )
        x = x + positions(T, x.shape[-1]).to(x.dtype)[None]
        mask = (torch.arange(T)[None] < tokens[:, None]).to(x.dtype)[:, None]  # (B, 1, T)
        maps = []
        for layer in self.layers:
            x, weights = layer(x, mask)
            maps.append(weights)
        scores = self.out(self.norm(x))
        out = scores - scores.logsumexp(dim=-1, keepdim=True), tokens
        return (*out, torch.stack(maps)) if need_weights else out


# %% p08_solution_ctc
def ctc_loss(log_probs, lengths, targets, target_lengths):
    """Forward sums with letters and blanks apart: a blank more than letters, and no third kind."""
    B, T, _ = log_probs.shape
    S, low = targets.shape[1], -1e25
    rows = torch.arange(B)
    letters = log_probs.gather(2, targets[:, None].expand(B, T, S))  # (B, T, S)
    blank = log_probs[:, :, BLANK, None]  # (B, T, 1)
    lows = log_probs.new_full((B, S), low)
    other = F.pad(targets[:, 1:] != targets[:, :-1], (1, 0))  # a letter may follow another one
    blanks = torch.cat([blank[:, 0], lows], dim=1)  # (B, S + 1)
    said = torch.cat([letters[:, 0, :1], lows[:, 1:]], dim=1)  # (B, S)
    found = torch.full((B,), math.inf, dtype=log_probs.dtype)
    for t in range(T):
        if t:
            before = torch.where(other, said.roll(1, dims=1), lows)
            grown = torch.logaddexp(torch.logaddexp(said, blanks[:, :-1]), before) + letters[:, t]
            ended = torch.logaddexp(blanks[:, 1:], said)
            blanks = torch.cat([blanks[:, :1], ended], dim=1) + blank[:, t]
            said = grown
        ends = blanks[rows, target_lengths]
        if S:
            spoken = said[rows, (target_lengths - 1).clamp(min=0)]
            ends = torch.where(target_lengths > 0, torch.logaddexp(ends, spoken), ends)
        ends = torch.where(ends < low / 2, torch.full_like(ends, -math.inf), ends)
        found = torch.where(lengths == t + 1, -ends, found)
    return found


# %% p08_solution_decoding
def greedy_decode(log_probs, lengths):
    from itertools import groupby

    return [
        [
            int(n)
            for n, _ in groupby(log_probs[b, : int(lengths[b])].argmax(-1).tolist())
            if n != BLANK
        ]
        for b in range(len(log_probs))
    ]


def beam_decode(log_probs, lengths, width):
    def plus(a, b):
        return float(np.logaddexp(a, b))

    out = []
    for b in range(len(log_probs)):
        blank, letter = {(): 0.0}, {}
        for row in log_probs[b, : int(lengths[b])].double().numpy():
            next_blank, next_letter = {}, {}
            for prefix in {*blank, *letter}:
                ended, going = blank.get(prefix, -math.inf), letter.get(prefix, -math.inf)
                either = plus(ended, going)
                next_blank[prefix] = either + row[BLANK]
                for number in range(1, len(row)):
                    same = bool(prefix) and prefix[-1] == number
                    if same:
                        old = next_letter.get(prefix, -math.inf)
                        next_letter[prefix] = plus(old, going + row[number])
                    longer = (*prefix, number)
                    old = next_letter.get(longer, -math.inf)
                    next_letter[longer] = plus(old, (ended if same else either) + row[number])
            sums = {
                prefix: plus(next_blank.get(prefix, -math.inf), next_letter.get(prefix, -math.inf))
                for prefix in {*next_blank, *next_letter}
            }
            kept = sorted(sums, key=sums.get)[-width:]
            blank = {prefix: next_blank[prefix] for prefix in kept if prefix in next_blank}
            letter = {prefix: next_letter[prefix] for prefix in kept if prefix in next_letter}
        out.append((list(kept[-1]), sums[kept[-1]]))
    return out
