"""What tools say, in each language, and the cleaning of what they return."""

from __future__ import annotations

import re
from typing import Literal

from appliance.mind.characters import visible
from appliance.mind.perspective import turned

_TEMPLATE_MARK = re.compile(r"<\|.*?\|>")

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
    "no_timer": ("No timer is running.", "没有计时器在运行。"),
    "no_alarm": ("No alarm is set.", "没有设闹钟。"),
    "no_reminder": ("No reminder is set.", "没有设提醒。"),
    "none_set": ("No timer or alarm is set.", "没有设计时器或闹钟。"),
    "timer": ("The timer", "计时器"),
    "named_timer": ("The {name} timer", "{name}计时器"),
    "alarm": ("The alarm", "闹钟"),
    "named_alarm": ("The {name} alarm", "{name}闹钟"),
    "reminder": ("The reminder", "提醒"),
    "named_reminder": ("The reminder to {name}", "{name}的提醒"),
    "reminds": ("It's time to {name}.", "该{name}了。"),
    "it_is": ("It is {time}.", "现在是{time}。"),
    "result": ("That is {value}.", "等于{value}。"),
    "noted": ("I noted: {text}", "记下了：{text}"),
    "notes": ("Your notes: {text}", "你的笔记：{text}"),
    "no_notes": ("There are no notes.", "没有笔记。"),
    "shopping": ("Shopping list: {text}", "购物清单：{text}"),
    "to-do": ("To do: {text}", "待办：{text}"),
    "on_list": ("{text}.", "{text}。"),
    "empty_list": ("There is nothing on that list.", "清单上什么也没有。"),
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
    "okay": ("Okay.", "好的。"),
    "did_not_work": ("Sorry, that did not work.", "抱歉，没有成功。"),
    "not_done": ("Okay, I won't.", "好的，不做了。"),
    "for_how_long": ("For how long?", "多长时间？"),
    "at_what_time": ("At what time?", "几点？"),
    "runs_for": ("{what} runs for {length} more.", "{what}还有{length}。"),
    "rings_again": ("I'll remind you again in {length}.", "{length}后再提醒你。"),
    "cannot_repeat": (
        "I can only repeat that every day or on certain days of the week.",
        "我只能每天或每周的某几天重复提醒。",
    ),
    "taken_back": ("Okay, I took that back.", "好的，已撤销。"),
    "all_cancelled": ("All of them are cancelled.", "全部取消了。"),
    "is_done": ("{what} is done.", "{what}到了。"),
    "was_due": ("{what} was due {length} ago.", "{what}在{length}前就到了。"),
    "alarm_rings": ("It's {time}. {what}.", "现在是{time}，{what}。"),
    "volume": ("Volume {percent} percent.", "音量百分之{percent}。"),
    "nothing_to_repeat": ("I haven't said anything yet.", "我还什么都没说过。"),
    "muted": ("The microphone of the box is off now.", "设备的麦克风已关闭。"),
    "cannot_mute": (
        "Sorry, I could not switch the microphone off. It may still be on.",
        "抱歉，麦克风没能关闭，可能还开着。",
    ),
    "unmute_how": (
        "The microphone is switched on in the panel, or with its own switch.",
        "麦克风要在面板里或用开关打开。",
    ),
    "speaks": ("I speak English and Chinese.", "我会说中文和英文。"),
    "speaks_not": (
        "I can only listen in English here. Another language is set in the panel.",
        "这里我只能听英文，可以在面板里更改语言。",
    ),
    "remembered": ("I'll remember: {text}", "我记住了：{text}"),
    "forgotten": ("I forgot: {text}", "已忘记：{text}"),
    "all_forgotten": ("I forgot everything you told me.", "你告诉我的事情我都忘了。"),
    "confirm_forget": ("Shall I forget everything you told me?", "要忘记你告诉我的一切吗？"),
    "which_fact": ("Which of these: {text}?", "是哪一个：{text}？"),
    "no_such_fact": ("I don't remember anything like that.", "我不记得这样的事。"),
    "facts": ("{text}", "{text}"),
    "more_facts": ("{text} And {count} more.", "{text}还有{count}件。"),
    "no_facts": ("You haven't told me anything to remember.", "你还没有让我记住什么。"),
    "not_told": ("You haven't told me that.", "这个你没有告诉过我。"),
    "memory_off": (
        "My memory is switched off, so I can't remember that.",
        "我的记忆功能关着，所以记不住。",
    ),
    "cannot_keep": (
        "Sorry, I can't keep anything at the moment: {why}.",
        "抱歉，我现在什么也存不了：{why}。",
    ),
    "impossible": ("Sorry, that won't do: {why}.", "抱歉，这样不行：{why}。"),
    "disk_full": ("the disk is full", "磁盘已满"),
    "disk_fails": ("the disk does not work as it should", "磁盘不正常"),
    "all_notes_deleted": ("I deleted all notes.", "已删除所有笔记。"),
    "confirm_notes": ("Shall I delete all {count} notes?", "要删除全部{count}条笔记吗？"),
}

_REASONS_ZH = {
    "a timer can run for up to a year": "计时器最长一年",
    "there are too many timers and alarms already: cancel one first": "太多了，请先取消一个",
    "there is no such time of day": "没有这个时间",
    "that time has passed already": "那个时间已经过了",
    "nothing of that kind is ringing": "没有在响的",
    "no such timer is running": "没有这样的计时器在运行",
    "there was nothing to remember": "没有要记的内容",
    "that is too long to remember: say it in one short sentence": "太长了，请用一句短话说",
    "the memory is full: forget something first": "记忆满了，请先忘掉一些",
}
"""What an error says that may be spoken, in Chinese."""
_UNITS = (
    (86_400, "day", "天"),
    (3600, "hour", "小时"),
    (60, "minute", "分钟"),
    (1, "second", "秒"),
)


def phrase(key: str, language: Literal["en", "zh"], **values: object) -> str:
    """A sentence of the table with its places filled."""
    return _PHRASES[key][language == "zh"].format(**values)


def impossible(why: str, language: Literal["en", "zh"]) -> str:
    """That something cannot be done, and why, as its error says in English."""
    return phrase("impossible", language, why=_REASONS_ZH[why] if language == "zh" else why)


def fixed_phrases(language: str) -> list[str]:
    """The sentences that are always the same, to be synthesised before they are needed."""
    return [pair[language == "zh"] for pair in _PHRASES.values() if "{" not in pair[0]]


def clean(text: str, limit: int) -> str:
    """One line without control characters, marks of chat templates or more than ``limit``."""
    return " ".join(_TEMPLATE_MARK.sub(" ", visible(text[: 4 * limit])).split())[:limit]


def called(
    kind: Literal["timer", "alarm"], name: str, language: Literal["en", "zh"], *, reminder: bool
) -> str:
    """What a timer or alarm is called: "The tea timer", "The reminder to call your mother"."""
    what = "reminder" if reminder else kind
    name = turned(name) if reminder else name
    return phrase(f"named_{what}" if name else what, language, name=name)


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
