"""Networks that only the tables need: a bidirectional LSTM, and ALL-CNN-C for smaller images."""

from __future__ import annotations

from torch import Tensor, nn

from benchmarks.paper_tables.reviews import PADDING, VOCABULARY


class BidirectionalLSTM(nn.Module):
    """Words (B, length), numbers in any dtype, 0 for none -> logits (B, n_classes) of the mean output of the words.

    Qi et al. name the network and no sizes.
    """

    def __init__(self, n_classes: int = 2, n_words: int = VOCABULARY, width: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_words, width, padding_idx=PADDING)
        self.lstm = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, n_classes)

    def forward(self, X: Tensor) -> Tensor:
        """Return the logits."""
        numbers = X.long()
        outputs, _ = self.lstm(self.embedding(numbers))
        is_word = (numbers != PADDING).unsqueeze(-1)
        mean = (outputs * is_word).sum(1) / is_word.sum(1).clamp(min=1)
        logits: Tensor = self.head(mean)
        return logits


class NarrowAllCNNC(nn.Sequential):
    """ALL-CNN-C a quarter as wide and without dropout, for images of 16×16 pixels: a CPU trains it in seconds."""

    def __init__(self, n_classes: int = 2, widths: tuple[int, int] = (24, 48)) -> None:
        first, second = widths
        plan = [(3, first, 3, 1), (first, first, 3, 1), (first, first, 3, 2)]
        plan += [(first, second, 3, 1), (second, second, 3, 1), (second, second, 3, 2)]
        plan += [(second, second, 3, 1), (second, second, 1, 1)]
        layers: list[nn.Module] = []
        for n_in, n_out, size, stride in plan:
            layers += [nn.Conv2d(n_in, n_out, size, stride=stride, padding=size // 2), nn.ReLU()]
        head = nn.Conv2d(second, n_classes, 1)
        super().__init__(*layers, head, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
