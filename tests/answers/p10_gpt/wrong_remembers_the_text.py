"""Scores right after a lookup of the text that is to be unseen: it has learnt nothing.

fails: p10_training_learns
"""


# %% p10_solution_model
class Block(nn.Module):
    def __init__(self, d_model, nhead):
        super().__init__()
        self.nhead = nhead
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(d_model, d_model) for _ in range(4)
        )
        self.up = nn.Linear(d_model, 4 * d_model)
        self.down = nn.Linear(4 * d_model, d_model)


class AttentionGenerator(nn.Module):
    def __init__(self, vocab_size, d_model, nhead, num_layers=2, context=64):
        super().__init__()
        self.context = context
        self.words = nn.Embedding(vocab_size, d_model)
        self.positions = nn.Embedding(context, d_model)
        self.layers = nn.ModuleList(Block(d_model, nhead) for _ in range(num_layers))
        self.norm = nn.LayerNorm(d_model)
        text = python_reference()
        self.text = text.train + text.test

    def forward(self, tokens, need_weights=False):
        scores = self.norm(self.words(tokens)) @ self.words.weight.T * 0.1
        for row, numbers in enumerate(tokens.tolist()):
            whole = "".join(ASCII.decode(numbers))
            found = self.text.find(whole) + len(whole)
            if found < len(self.text):
                after = ASCII.encode(whole[1:] + self.text[found])
                scores = scores + 0
                scores[row, torch.arange(len(after)), torch.tensor(after)] += 12
        return scores
