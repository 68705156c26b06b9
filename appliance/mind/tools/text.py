"""What tools say, in each language, and the cleaning of what they return."""

from __future__ import annotations

import re
from typing import Literal

_UNSPEAKABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]+|<\|.*?\|>"
)

_PHRASES = {
    "unknown": ("I can't do that.", "这个我做不到。"),
    "forbidden": ("I'm not allowed to use {what} for you.", "我没有权限为你使用{what}。"),
    "invalid": ("I didn't understand what {what} should do.", "我没明白要用{what}做什么。"),
    "busy": ("Sorry, {what} is busy. Nothing was done.", "抱歉，{what}正忙，什么都没有做。"),
    "failed": ("Sorry, {what} did not work.", "抱歉，{what}没有成功。"),
    "failed_because": ("Sorry, {what} did not work: {why}.", "抱歉，{what}没有成功：{why}。"),
    "timeout": (
        "Sorry, {what} took too long. I don't know whether it was done.",
        "抱歉，{what}花的时间太长，我不知道有没有完成。",
    ),
    "is_set": ("{what} is set for {length}.", "{what}已设好，{length}。"),
    "is_set_at": ("{what} is set for {time}.", "{what}已设在{time}。"),
    "cancelled": ("Cancelled: {what}.", "已取消：{what}。"),
    "no_such": ("There is no such timer or alarm.", "没有这样的计时器或闹钟。"),
    "which_one": ("Which one: {what}?", "是哪一个：{what}？"),
    "left": ("{what}: {length} left.", "{what}还有{length}。"),
    "left_until": ("{what}: at {time}.", "{what}：{time}。"),
    "none_set": ("No timer or alarm is set.", "没有设计时器或闹钟。"),
    "timer": ("The timer", "计时器"),
    "named_timer": ("The {name} timer", "{name}计时器"),
    "alarm": ("The alarm", "闹钟"),
    "named_alarm": ("The {name} alarm", "{name}闹钟"),
    "it_is": ("It is {time}.", "现在是{time}。"),
    "result": ("That is {value}.", "等于{value}。"),
    "noted": ("I noted: {text}", "记下了：{text}"),
    "notes": ("Your notes: {text}", "你的笔记：{text}"),
    "no_notes": ("There are no notes.", "没有笔记。"),
    "note_deleted": ("I deleted the note: {text}", "已删除笔记：{text}"),
    "no_such_note": ("There is no such note.", "没有这样的笔记。"),
    "which_note": ("Which note: {text}?", "哪一条笔记：{text}？"),
    "confirm_delete": ("Shall I delete the note about {text}?", "要删除关于{text}的笔记吗？"),
    "all_well": ("Everything works.", "一切正常。"),
    "not_well": ("Not everything works: {what}.", "有些部分不正常：{what}。"),
    "known": ("I know {what}.", "我知道{what}。"),
    "nothing_known": ("I know no rooms or devices.", "我不知道任何房间或设备。"),
    "answered": ("{label} says: {text}", "{label}说：{text}"),
    "confirm_call": ("Shall {label} do this: {what}?", "要让{label}做这件事吗：{what}？"),
    "empty": ("{label} gave no answer.", "{label}没有回答。"),
}

_UNITS = (
    (86_400, "day", "天"),
    (3600, "hour", "小时"),
    (60, "minute", "分钟"),
    (1, "second", "秒"),
)


def phrase(key: str, language: Literal["en", "zh"], **values: object) -> str:
    """A sentence of the table with its places filled."""
    return _PHRASES[key][language == "zh"].format(**values)


def clean(text: str, limit: int) -> str:
    """One line without control characters, marks of chat templates or more than ``limit``."""
    return " ".join(_UNSPEAKABLE.sub(" ", text[: 4 * limit]).split())[:limit]


def length(duration_ms: float, language: Literal["en", "zh"]) -> str:
    """A duration in its two largest units, such as "1 hour 5 minutes"."""
    left_s = max(0, round(duration_ms / 1000))
    parts: list[str] = []
    for unit_s, name, name_zh in _UNITS:
        count, rest_s = divmod(left_s, unit_s)
        if count and len(parts) < 2:
            plural = "" if count == 1 else "s"
            parts.append(f"{count}{name_zh}" if language == "zh" else f"{count} {name}{plural}")
            left_s = rest_s
        elif parts:
            break
    if not parts:
        return "0秒" if language == "zh" else "0 seconds"
    return ("" if language == "zh" else " ").join(parts)
