"""Exercises of chapter 02: how close is close enough, what a file's first bytes say, how to mend a module."""

from kit.lesson.exercises import Exercise, number


def _exports(answer: object) -> str | None:
    """Is it a module that scales a loud signal to 1, leaves a quiet one alone, and can be exported?"""
    import torch

    from kit.export import breaks

    if not isinstance(answer, torch.nn.Module):
        return f"The answer must be a torch module, such as `answer = Limit()`, got {type(answer).__name__}."
    loud, quiet = torch.tensor([0.5, 4.0, -2.0]), torch.tensor([0.5, 0.25, -0.5])
    if not torch.allclose(answer(loud), loud / 4):
        return f"A maximum of 4 must be divided away: {loud.tolist()} became {answer(loud).tolist()}."
    if not torch.allclose(answer(quiet), quiet):
        return f"A maximum below 1 must be left alone: {quiet.tolist()} became {answer(quiet).tolist()}."
    outcome = breaks.try_export(answer, (loud,))
    return None if outcome == "exported" else f"The numbers are right, but it does not export: {outcome}"


EXERCISES = (
    Exercise(
        id="02.1",
        task=(
            "After an export, any logit may be off by up to 0.02, up or down. More than how much must the "
            "best two logits of a sentence differ, so that its class cannot change?"
        ),
        check=number(
            0.04,
            traps={
                0.02: "One logit can fall by 0.02. What can the other one do at the same time?",
                0.01: "The differences do not share the 0.02: each logit has its own.",
            },
        ),
        hints=(
            "Think of the worst case: the best logit is too low, and the second?",
            "The best falls by 0.02 and the second rises by 0.02.",
        ),
        solution="answer = 2 * 0.02",
        wrong="answer = 0.02",
    ),
    Exercise(
        id="02.2",
        task=(
            "A safetensors file begins with the eight bytes 58 02 00 00 00 00 00 00 (hexadecimal). They are "
            "a number, smallest byte first: the length of the JSON header, which follows. At which byte of "
            "the file, counted from 0, do the tensors begin?"
        ),
        check=number(
            608,
            within=1e-9,
            traps={
                600: "The header is 600 bytes long. But where does it begin?",
                0x5802000000000000 + 8: "That reads the largest byte first. Here the smallest comes first.",
                0x5802000000000000: "That reads the largest byte first. Here the smallest comes first.",
                0x5802 + 8: "That reads the largest byte first. Here the smallest comes first.",
                90: "58 and 02 are digits of one number: 0x58 + 256 × 0x02.",
            },
        ),
        hints=(
            'Python reads it: int.from_bytes(bytes.fromhex("5802000000000000"), "little").',
            "The eight bytes themselves come before the header.",
        ),
        solution='answer = 8 + int.from_bytes(bytes.fromhex("5802000000000000"), "little")',
        wrong='answer = int.from_bytes(bytes.fromhex("5802000000000000"), "little")',
    ),
    Exercise(
        id="02.3",
        task=(
            "In GGUF, the type Q4_1 keeps 32 weights in a block of 20 bytes. How many bits does one weight "
            "take, all counted?"
        ),
        check=number(
            5,
            unit="bits",
            traps={
                4: "The weights take 4 bits. But a block also keeps a scale and a minimum, 2 bytes each.",
                0.625: "That is in bytes. How many bits has a byte?",
                1.6: "That is weights per byte. Turn it round, and count bits.",
            },
        ),
        hints=("How many bits are 20 bytes?", "160 bits for 32 weights."),
        solution="answer = 20 * 8 / 32",
        wrong="answer = 4",
    ),
    Exercise(
        id="02.4",
        task=(
            "A module that does `return x / x.max() if x.max() > 1 else x` cannot be exported. Write one "
            "with the same answers that can, and assign it: `answer = Limit()`."
        ),
        check=_exports,
        hints=(
            "Which tensor should be divided by 1 in one case and by the maximum in the other?",
            "torch.where(condition, a, b) chooses inside the graph.",
        ),
        solution=(
            "class Limit(torch.nn.Module):\n"
            "    def forward(self, x):\n"
            "        return torch.where(x.max() > 1, x / x.max(), x)\n"
            "\n"
            "answer = Limit()"
        ),
        wrong=(
            "class Limit(torch.nn.Module):\n"
            "    def forward(self, x):\n"
            "        return x / x.max() if x.max() > 1 else x\n"
            "\n"
            "answer = Limit()"
        ),
        setup="import torch",
    ),
)
