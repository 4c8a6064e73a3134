"""What the Chinese sentences mean that the chapter's first table shows."""

from __future__ import annotations

_MEANING = {
    "让卫生间所有计时器都删除": "have all timers in the bathroom deleted",
    "让后院调至四十八度": "have the back garden set to forty-eight degrees",
    "把楼梯间计时器再减86分54秒钟": "take another 86 minutes and 54 seconds off the staircase timer",
    "饼干糊了 那个计时掐了吧": "the biscuits are burnt, just kill that timer",
    "故事音量调成三十五": "set the story's volume to thirty-five",
    "干活得来点带劲的 切歌": "work needs something livelier, next song",
    "谁是乔叟": "who is Chaucer",
    "弗兰克 赫伯特": "Frank Herbert",
    "什么是棒球": "what is baseball",
}


def in_english(text: str) -> str | None:
    """The meaning of a Chinese sentence; None for one that is not listed, and for English."""
    return _MEANING.get(text)
