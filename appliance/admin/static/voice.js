// The browser as microphone and loudspeaker. Audio goes over WebRTC, straight to the appliance and
// back; the WebSocket only carries what the two need to find each other.
const $ = (id) => document.getElementById(id);
const texts = JSON.parse($("voice").dataset.texts);
const tab = crypto.randomUUID?.() ?? String(Math.random()).slice(2).padEnd(8, "0");
const RETRY_MS = [500, 1000, 2000, 4000];
const CONNECT_WITHIN_MS = 10_000;
const LOST_AFTER_MS = 2_000;
const LEVEL_EVERY_MS = 100;
const LOG_MOST = 50;

let wanted = false; // whether the person wants to talk
let microphone = null;
let meter = null; // { context, timer }
let socket = null;
let peer = null;
let gateway = 0; // which life of the gateway process the panel sees; 0: none
let usedGateway = 0;
let attempt = 0;
let retry = 0;

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function show(state) {
  $("talk").dataset.state = state;
  set($("voice-state"), texts[`voice.${state}`] ?? texts[`state.${state}`] ?? state);
}

function showError(key) {
  $("voice-error").hidden = !key;
  if (key) set($("voice-error"), texts[`voice.error.${key}`] ?? key);
  $("voice-trust").hidden = key !== "insecure";
}

function showButtons() {
  set($("voice-toggle"), texts[wanted ? "voice.leave" : "voice.start"]);
  const mute = $("voice-mute");
  const track = microphone?.getAudioTracks()[0];
  mute.disabled = !track;
  const muted = Boolean(track && !track.enabled);
  mute.setAttribute("aria-pressed", String(muted));
}

// --- captions -----------------------------------------------------------------

function heard({ stable, tail }) {
  set($("voice-stable"), stable);
  set($("voice-tail"), tail);
}

function logTurn({ heard: question, said }) {
  const line = document.createElement("li");
  for (const [who, words] of [["you", question], ["it", said]]) {
    if (!words) continue;
    const part = document.createElement("p");
    const name = document.createElement("strong");
    name.textContent = `${texts[`voice.${who}`]}: `;
    part.append(name, words);
    line.append(part);
  }
  if (!line.childElementCount) return;
  const log = $("voice-log");
  log.append(line);
  while (log.childElementCount > LOG_MOST) log.firstElementChild.remove();
  heard({ stable: "", tail: "" });
  set($("voice-saying"), "");
}

function take(event) {
  switch (event.type) {
    case "state": show(event.state); break;
    case "heard": heard(event); break;
    case "saying": set($("voice-saying"), event.text); break;
    case "turn": logTurn(event); break;
  }
}

// --- microphone ---------------------------------------------------------------

async function openMicrophone() {
  if (!window.isSecureContext || !navigator.mediaDevices?.getUserMedia) throw new Error("insecure");
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
  } catch (error) {
    const known = {
      NotAllowedError: "denied", SecurityError: "denied",
      NotFoundError: "no_microphone", OverconstrainedError: "no_microphone",
      NotReadableError: "busy", AbortError: "busy",
    };
    throw new Error(known[error.name] ?? "busy");
  }
}

function watchLevel(stream) {
  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: 1024 });
  context.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, value) => sum + value * value, 0) / samples.length;
    $("voice-level").value = Math.max(-60, 10 * Math.log10(power + 1e-9));
  }, LEVEL_EVERY_MS);
  return { context, timer };
}

// --- signalling ---------------------------------------------------------------

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function openSocket() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const opened = new WebSocket(`${scheme}://${location.host}/voice/socket?tab=${tab}`);
  socket = opened;
  opened.addEventListener("message", async ({ data }) => {
    if (socket !== opened) return;
    const message = JSON.parse(data);
    switch (message.type) {
      case "gateway":
        gateway = message.life;
        // another life of the gateway knows nothing of this conversation
        if (gateway && (!peer || gateway !== usedGateway)) connect();
        else if (!gateway) lost("unavailable");
        break;
      case "answer":
        await peer?.setRemoteDescription({ type: "answer", sdp: message.sdp }).catch(() => later());
        break;
      case "refused":
        showError(message.reason);
        if (message.reason === "full" || message.reason === "offer") leave({ keepError: true });
        else later();
        break;
    }
  });
  opened.addEventListener("close", ({ code }) => {
    if (socket !== opened) return;
    socket = null;
    if (!wanted) return;
    if (code === 1008) {
      showError("signed_out");
      leave({ keepError: true });
    } else {
      later(); // the conversation may well go on meanwhile
    }
  });
}

function later() {
  if (!wanted || retry) return;
  const wait = RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)];
  attempt += 1;
  retry = setTimeout(() => {
    retry = 0;
    if (!wanted) return;
    if (!socket) openSocket(); // it tells about gateway first; then goes on
    else if (gateway && !isConnected()) connect();
  }, wait);
}

// --- the conversation ---------------------------------------------------------

const isConnected = () => peer?.connectionState === "connected";

function drop() {
  const old = peer;
  peer = null;
  old?.close();
}

function lost(error) {
  drop();
  if (!wanted) return;
  show("connecting");
  if (error) showError(error);
  later();
}

async function connect() {
  drop();
  show("connecting");
  usedGateway = gateway;
  const own = new RTCPeerConnection({ iceServers: [] });
  peer = own;
  own.addTrack(microphone.getAudioTracks()[0], microphone);
  const channel = own.createDataChannel("events");
  channel.addEventListener("message", ({ data }) => { if (peer === own) take(JSON.parse(data)); });
  channel.addEventListener("close", () => { if (peer === own) lost("network"); });
  own.addEventListener("icecandidate", ({ candidate }) => {
    if (peer === own && candidate?.candidate) {
      send({ type: "candidate", candidate: candidate.candidate, mid: candidate.sdpMid ?? "0" });
    }
  });
  own.addEventListener("track", ({ track, receiver }) => {
    receiver.jitterBufferTarget = 0; // as little as the network allows
    $("voice-audio").srcObject = new MediaStream([track]);
  });
  own.addEventListener("connectionstatechange", () => {
    if (peer !== own) return;
    if (own.connectionState === "connected") {
      attempt = 0;
      showError("");
      show("idle");
    } else if (own.connectionState === "disconnected") {
      setTimeout(() => { if (peer === own && !isConnected()) lost("network"); }, LOST_AFTER_MS);
    } else if (["failed", "closed"].includes(own.connectionState)) {
      lost("network");
    }
  });
  setTimeout(() => { if (peer === own && !isConnected()) lost("network"); }, CONNECT_WITHIN_MS);
  try {
    await own.setLocalDescription();
    if (peer === own) send({ type: "offer", sdp: own.localDescription.sdp });
  } catch {
    lost("network");
  }
}

async function start() {
  wanted = true;
  showError("");
  showButtons();
  show("asking");
  try {
    microphone = await openMicrophone();
  } catch (error) {
    showError(error.message);
    leave({ keepError: true });
    return;
  }
  if (!wanted) { // left while the browser was asking
    closeMicrophone();
    return;
  }
  microphone.getAudioTracks()[0].addEventListener("ended", () => {
    if (!wanted) return;
    showError("no_microphone");
    leave({ keepError: true });
  });
  meter = watchLevel(microphone);
  showButtons();
  show("connecting");
  attempt = 0;
  openSocket();
}

function closeMicrophone() {
  for (const track of microphone?.getTracks() ?? []) track.stop();
  microphone = null;
}

function leave({ keepError = false } = {}) {
  wanted = false;
  clearTimeout(retry);
  retry = 0;
  send({ type: "leave" });
  drop();
  socket?.close();
  socket = null;
  closeMicrophone();
  if (meter) {
    clearInterval(meter.timer);
    meter.context.close();
    meter = null;
  }
  $("voice-level").value = -60;
  $("voice-audio").srcObject = null;
  if (!keepError) showError("");
  showButtons();
  show("off");
}

$("voice-toggle").addEventListener("click", () => (wanted ? leave() : start()));
$("voice-mute").addEventListener("click", () => {
  const track = microphone?.getAudioTracks()[0];
  if (track) track.enabled = !track.enabled;
  showButtons();
});
addEventListener("pagehide", () => { if (wanted) leave(); });
if (!window.isSecureContext) showError("insecure");
