"""The whole appliance, talked to through a real browser: a question is spoken into the page, and
the answer that the page plays is transcribed."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import numpy as np
import pytest
from hearing import ALIKE, alike, overlap, words
from panel_world import PASSWORD
from playwright.sync_api import expect
from test_voice_browser import _RECORD, open_chromium

from appliance.admin.pairing import read_code
from appliance.asr.engine import create_engine
from appliance.asr.transcriber import Transcriber
from appliance.audio.blocks import RATE_HZ
from appliance.audio.files import read_speech, write_wav
from appliance.bench.rig import private_appliance
from appliance.config import PROJECT_ROOT
from appliance.ipc.bus import subscribe
from appliance.messages import TurnRecord
from appliance.models.store import ensure_model

pytestmark = [pytest.mark.browser, pytest.mark.loopback, pytest.mark.models]

QUESTION = PROJECT_ROOT / "appliance" / "loopback" / "question.wav"
_LISTEN_S = 25
_SILENCE_S = 8


def test_a_question_spoken_into_a_browser_is_answered_in_it(tmp_path: Path) -> None:
    said, _ = read_speech(QUESTION)
    microphone = tmp_path / "microphone.wav"
    silence = np.zeros(_SILENCE_S * RATE_HZ, np.float32)
    write_wav(microphone, np.concatenate([silence, said, silence, silence, silence]))
    settings = {
        "APPLIANCE_LLM__MODEL": "qwen2.5-coder-0.5b",
        "APPLIANCE_LLM__SYSTEM_PROMPT": "Answer in one whole sentence.",  # a lone word is misheard
        "STATE_DIRECTORY": str(tmp_path),
    }
    with private_appliance(settings) as rig:
        turns = subscribe(rig.config.runtime_path, [TurnRecord.topic])
        browser, playwright = open_chromium(microphone)
        try:
            page = browser.new_context().new_page()
            page.goto(f"http://localhost:{rig.config.admin.port}/pair")
            page.fill("[name=code]", read_code(rig.config.runtime_path) or "")
            page.fill("[name=name]", "Ada")
            page.fill("[name=password]", PASSWORD)
            page.press("[name=password]", "Enter")
            page.get_by_role("link", name="Talk", exact=True).click()
            page.get_by_role("button", name="Start talking").click()
            expect(page.locator("#voice-state")).to_have_text("Ready", timeout=15_000)
            page.evaluate(f"() => {{ window.recorded = ({_RECORD})({_LISTEN_S}); }}")
            until = time.monotonic() + 60
            while (record := turns.receive(100)) is None or record.session_id != "remote.1":
                assert time.monotonic() < until, rig.log[-3000:]
            assert isinstance(record, TurnRecord)
            assert record.outcome == "answered"
            assert overlap("What is the capital of Italy?", record.transcript) > 0.8
            expect(page.get_by_role("log")).to_contain_text(record.transcript)
            played = np.frombuffer(base64.b64decode(page.evaluate("window.recorded")), np.float32)
        finally:
            browser.close()
            playwright.stop()  # type: ignore[attr-defined]
            turns.close()
    ears = Transcriber(create_engine("ctranslate2", ensure_model("whisper-tiny.en"), threads=1))
    heard = ears.transcribe(np.array(played)).text
    assert "rome" in words(record.reply)
    assert alike(record.reply, heard) >= ALIKE, (record.reply, heard)
