"""
Text: names, and what is asked about them
=========================================

Hybrid convolutions are not for images only: in this page they read characters. The network sees a given name, letter
by letter. A covariate says what is asked: *is it Italian (or Japanese)?* or *is it usually a woman's (or a man's)?*
Both languages end most names in a vowel, and ``-o`` is a man's ending in Italian while ``-ko`` is a woman's in
Japanese.

The 160 names below are a compilation of common ones, made for this page. Usage differs and changes; they are letters
to learn from, not facts about people.

**Known by construction.** Each of the four groups has 40 names. For half of the names both questions have the same
answer. So from the name alone, the best is 75 %, and from the question alone 50 %. How close to 100 % one can come
with both is not known: a name that was never seen need not follow the rule.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import fusionconv

SEED = 0

# %%
# Data
# ----

NAMES = {
    ("Italian", "woman"): """
        anna giulia francesca chiara sara martina valentina elisa alessia federica silvia elena laura paola
        giorgia roberta claudia monica cristina daniela simona barbara lucia angela maria teresa caterina
        rosa emma aurora ginevra beatrice alice irene matilde noemi greta bianca camilla serena
    """,
    ("Italian", "man"): """
        marco francesco alessandro lorenzo matteo davide giuseppe antonio giovanni roberto stefano paolo
        mario luigi carlo franco bruno sergio fabio claudio massimo giorgio riccardo tommaso pietro filippo
        leonardo edoardo gabriele emanuele michele daniele simone raffaele salvatore vincenzo domenico
        enrico luca andrea
    """,
    ("Japanese", "woman"): """
        yoko keiko michiko kazuko sachiko akiko yumiko naoko tomoko noriko hanako kyoko reiko hiroko junko
        mariko emiko ayako fumiko yuko sakura hina aoi yui miyu misaki nanami haruka yuka ayumi megumi kaori
        mayumi chihiro natsuki mai rina miho satomi asuka
    """,
    ("Japanese", "man"): """
        hiroshi takashi kenji yuji koji satoshi makoto akira kazuo masao haruto yuto sota ren riku daiki
        shota kenta takuya tatsuya naoki hiroki yuki daisuke kosuke shinji takeshi osamu minoru isamu noboru
        mamoru tsutomu kaito yamato hayato taro jiro ichiro kentaro
    """,
}
rows = [(name, *group) for group, text in NAMES.items() for name in text.split()]
names = [name for name, _, _ in rows]
italian = np.array([language == "Italian" for _, language, _ in rows])
woman = np.array([usual == "woman" for _, _, usual in rows])
assert [len(text.split()) for text in NAMES.values()] == [40, 40, 40, 40]
assert len(set(names)) == 160

ALPHABET = "abcdefghijklmnopqrstuvwxyz$"  # $ ends a name
WIDTH = max(map(len, names)) + 1


def read(name):
    """A name -> (27, WIDTH), one-hot: the characters are channels, the positions are the length."""
    letters = torch.zeros(len(ALPHABET), WIDTH)
    for at, letter in enumerate(name.lower() + "$"):
        letters[ALPHABET.index(letter), at] = 1
    return letters


one_hot = torch.stack([read(name) for name in names]).repeat(2, 1, 1)  # each name is asked both questions
question = np.repeat([0, 1], 160)  # 0: Italian? 1: a woman's?
target = torch.from_numpy(np.concatenate([italian, woman])).float()
s = torch.from_numpy(question).float()[:, None]
best_from_name = np.mean(np.where(italian == woman, 1.0, 0.5))
print(f"{len(names)} names; best possible from the name alone: {best_from_name:.0%}")

# %%
# Four folds, by name
# -------------------
# A name is a subject: both of its questions are on one side of a split.

STEPS, FOLDS = 120, 4
fold = np.tile(np.random.default_rng(SEED).permutation(160) % FOLDS, 2)


class Reader(nn.Module):
    """Filters of three letters, the best place of each, and two linear layers."""

    def __init__(self):
        super().__init__()
        self.letters = nn.Conv1d(len(ALPHABET), 24, 3, padding=1)
        self.drop = nn.Dropout(0.3)
        self.hidden = nn.Linear(24, 16)
        self.out = nn.Linear(16, 1)

    def forward(self, x):
        """One logit for each row."""
        x = self.drop(self.letters(x).relu().amax(-1))
        return self.out(self.hidden(x).relu())


ARMS = {
    "name": None,
    "concat, end": ("out", "concat"),
    "concat, hidden": ("hidden", "concat"),
    "film": ("letters", "film"),
    "hybrid": ("letters", "hybrid"),
}
scores, accuracy = {}, {}
for arm, fusion in ARMS.items():
    scores[arm] = torch.zeros(320)
    for held_out in range(FOLDS):
        torch.manual_seed(SEED * FOLDS + held_out)
        network = Reader()
        if fusion:
            network = fusionconv.fuse_into(network, fusion[0], num_covariates=1, method=fusion[1])
        train, test = fold != held_out, fold == held_out
        optimizer = torch.optim.AdamW(fusionconv.param_groups(network, 1e-2, 1e-2))
        torch.manual_seed(SEED * FOLDS + held_out)  # the same dropout in every arm
        for _ in range(STEPS):
            logits = network(one_hot[train], s[train]) if fusion else network(one_hot[train])
            loss = nn.functional.binary_cross_entropy_with_logits(logits[:, 0], target[train])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            scores[arm][test] = (network(one_hot[test], s[test]) if fusion else network(one_hot[test]))[:, 0]
    right = (scores[arm] > 0) == (target == 1)
    accuracy[arm] = right.float().mean().item()
    each = right.float().reshape(2, 160).mean(1)
    print(f"{arm:15s} {accuracy[arm]:.1%}  Italian? {each[0]:.1%}  woman's? {each[1]:.1%}")

# %%
# What came out
# -------------
# The first four names of each list, each read by a network that had not seen it. The name alone has one answer for
# both questions; wrong ones are framed. The question in the convolution, or in front of the hidden layer, gives two.
# Whose name it is stays the harder question: 120 names are few to learn it from, and *Andrea* and *Luca* do not
# follow the rule.

fig = plt.figure(figsize=(11, 5), layout="constrained")
left, right_side = fig.subfigures(1, 2, width_ratios=[1.1, 1])
shown = [n for start in (0, 40, 80, 120) for n in range(start, start + 4)]
for axis, arm in zip(left.subplots(1, 2, sharey=True), ("name", "hybrid"), strict=True):
    answers = torch.sigmoid(scores[arm]).reshape(2, 160)[:, shown].T.numpy()
    wanted = target.reshape(2, 160)[:, shown].T.numpy() == 1
    axis.imshow(answers, cmap="PuOr_r", vmin=0, vmax=1, aspect="auto")
    for row, column in np.argwhere((answers > 0.5) != wanted):
        axis.add_patch(plt.Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, color="red", lw=2))
    for row, column in np.ndindex(answers.shape):
        ink = "w" if abs(answers[row, column] - 0.5) > 0.3 else "k"
        word = "yes" if answers[row, column] > 0.5 else "no"
        axis.text(column, row, word, ha="center", va="center", color=ink, fontsize=9)
    axis.set(xticks=[0, 1], xticklabels=["Italian?", "woman's?"], title=f"{arm} alone" if arm == "name" else arm)
    axis.set_yticks(range(16), [names[n] for n in shown])
    axis.hlines([3.5, 7.5, 11.5], -0.5, 1.5, color="k", lw=1)
left.suptitle("Answers out of fold; wrong ones framed")

axis = right_side.subplots()
bars = axis.barh(list(accuracy), [100 * a for a in accuracy.values()], color=["0.6", "C1", "C1", "C2", "C0"])
axis.bar_label(bars, fmt="%.0f", padding=3)
axis.axvline(75, color="k", ls="--", lw=1)
axis.text(76, -0.62, "best from the name alone", fontsize=8, va="bottom")
axis.set(xlim=(50, 103), ylim=(4.6, -0.9), xlabel="accuracy out of fold, %")
axis.spines[["top", "right"]].set_visible(False)
right_side.suptitle("160 names, four folds by name")
plt.show()
