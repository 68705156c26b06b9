// The panel's only script: shows what the server sends. Every page works without it, but for logs.
const live = document.querySelector("[data-live]");
const texts = live ? JSON.parse(live.dataset.texts) : {};
const csrf = document.body.dataset.csrf;
const $ = (id) => document.getElementById(id);
const at = (value, path) => path.split("/").reduce((node, key) => node?.[key], value);

function set(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

function shown(value, { digits, unit }) {
  if (value === null || value === undefined) return "–";
  return (digits === undefined ? value : Number(value).toFixed(digits)) + (unit ?? "");
}

function localTimes(root) {
  const language = document.documentElement.lang;
  const locale = navigator.languages.find((name) => name.startsWith(language)) ?? language;
  for (const time of root.querySelectorAll("time[data-epoch]")) {
    const when = new Date(1000 * Number(time.dataset.epoch));
    time.dateTime = when.toISOString();
    set(time, when.toLocaleString(locale));
  }
}

function post(path, fields) {
  return fetch(path, {
    method: "POST",
    headers: { "X-CSRF-Token": csrf, "Content-Type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams(fields),
  });
}

async function refresh(path, id) {
  const answer = await fetch(path).catch(() => null);
  if (!answer?.ok) return false;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  localTimes(page);
  $(id).replaceWith(page.getElementById(id));
  return true;
}

// --- overview ---------------------------------------------------------------

function losses(counters) {
  const names = ["lost_blocks", "dropped_blocks", "device_overflows", "device_underflows", "underruns"];
  const found = names.filter((name) => name in counters);
  return found.length ? String(found.reduce((sum, name) => sum + counters[name], 0)) : "–";
}

function showMeters(channels) {
  const meters = $("meters");
  if (meters.querySelectorAll("meter").length !== channels.length) {
    meters.replaceChildren(...channels.map((_, index) => {
      const label = document.createElement("label");
      const text = document.createElement("span");
      const meter = document.createElement("meter");
      Object.assign(meter, { min: -90, max: 0, low: -70, high: -6, optimum: -30 });
      label.append(text, meter);
      label.dataset.channel = String(index + 1);
      return label;
    }));
  }
  [...meters.children].forEach((label, index) => {
    const channel = channels[index];
    const level = channel.level_dbfs ?? -90;
    label.lastChild.value = level;
    const health = channel.health === "ok" ? "" : ` (${channel.health})`;
    set(label.firstChild, `${label.dataset.channel}: ${Math.round(level)} dBFS${health}`);
  });
}

function showRings(rings) {
  const rows = rings.flatMap(({ ring, writer, readers }) => Object.entries(readers).map(
    ([reader, { unread_ms: unread, lost_blocks: lost }]) => [ring, writer, reader, shown(unread, {}), shown(lost, {})],
  ));
  const body = $("ring-rows");
  if (body.children.length !== rows.length) {
    body.replaceChildren(...rows.map((cells) => {
      const row = document.createElement("tr");
      cells.forEach((_, index) => {
        const cell = document.createElement(index ? "td" : "th");
        if (!index) cell.scope = "row";
        if (index > 2) cell.className = "number";
        row.append(cell);
      });
      return row;
    }));
  }
  rows.forEach((cells, at) => cells.forEach((text, index) => set(body.children[at].children[index], text)));
}

function showState(state) {
  $("hero").dataset.state = state.state;
  set($("state"), texts[`state.${state.state}`]);
  $("degraded").hidden = !state.degraded;
  set($("level-reason"), state.level?.reason ?? "");
  for (const element of document.querySelectorAll("[data-path]")) {
    set(element, shown(at(state, element.dataset.path), element.dataset));
  }
  for (const row of document.querySelectorAll("[data-process]")) {
    const entry = state.processes[row.dataset.process];
    if (!entry) continue;
    row.dataset.state = entry.state;
    set(row.querySelector(".process-state"), texts[`process.${entry.state}`]);
    set(row.querySelector(".heartbeat"), shown(entry.heartbeat_age_ms, {}));
    set(row.querySelector(".restarts"), shown(entry.restarts, {}));
    set(row.querySelector(".losses"), losses(entry.counters ?? {}));
  }
  showRings(state.rings);
  const button = $("mute");
  if (button) {
    set(button, texts[state.mute.software ? "unmute" : "mute"]);
    button.setAttribute("aria-pressed", String(state.mute.software || state.mute.hardware));
    button.disabled = state.mute.hardware;
    $("mute-form").elements.muted.value = String(!state.mute.software);
  }
  if (state.front_end) {
    showMeters(state.front_end.channels);
    const angle = (state.front_end.direction_deg ?? NaN) * Math.PI / 180;
    $("needle").setAttribute("x2", Number.isNaN(angle) ? 0 : -Math.sin(angle));
    $("needle").setAttribute("y2", Number.isNaN(angle) ? 0 : -Math.cos(angle));
  }
}

function showMachine(machine) {
  for (const element of document.querySelectorAll("[data-machine]")) {
    set(element, shown(at(machine, element.dataset.machine), element.dataset));
  }
  for (const row of document.querySelectorAll("[data-process]")) {
    const entry = machine.processes[row.dataset.process] ?? {};
    set(row.querySelector(".cpu"), shown(entry.cpu_percent, {}));
    set(row.querySelector(".pss"), shown(entry.pss_mb, {}));
  }
  const sensors = Object.entries(machine.temperatures_c).map(([name, degrees]) => `${name} ${degrees} °C`);
  set($("temperatures"), sensors.join(", ") || "–");
}

function overview(source) {
  source.addEventListener("state", (event) => showState(JSON.parse(event.data)));
  source.addEventListener("machine", (event) => showMachine(JSON.parse(event.data)));
  source.addEventListener("words", (event) => {
    const words = JSON.parse(event.data);
    set($("caption-stable"), words.stable);
    set($("caption-tail"), words.tail);
  });
  source.addEventListener("open", () => { $("offline").hidden = true; });
  source.addEventListener("error", () => { $("offline").hidden = false; });
  $("mute-form")?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const muted = $("mute-form").elements.muted.value;
    const answer = await post("/do/mute", { muted });
    if (!answer.ok) $("offline").hidden = false;
  });
}

// --- turns ------------------------------------------------------------------

const refreshTurns = () => refresh("/turns?part=1", "turns-part");

// --- timers and memory ------------------------------------------------------

function clock(seconds) {
  const whole = Math.max(0, Math.ceil(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

function memory() {
  let loaded = performance.now();
  setInterval(async () => {
    if (document.hidden) return;
    const passed = (performance.now() - loaded) / 1000;
    for (const span of document.querySelectorAll("[data-remaining]")) {
      set(span, clock(Number(span.dataset.remaining) - passed));
    }
    const busy = $("memory-part").contains(document.activeElement);  // somebody is about to press
    if (passed >= 5 && !busy && await refresh("/memory?part=1", "memory-part")) {
      loaded = performance.now();
    }
  }, 1000);
}

// --- models and settings ----------------------------------------------------

async function poll(path, everyMs, show) {
  const answer = await fetch(path).catch(() => null);
  if (!answer?.ok || show(await answer.json())) setTimeout(poll, everyMs, path, everyMs, show);
}

function models() {
  if ($("job-outcome")?.dataset.outcome !== "running") return;
  poll("/models/job", 500, (job) => {
    if (job.outcome !== "running") {
      location.reload();
      return false;
    }
    if (job.total_bytes) {
      Object.assign($("job-progress"), { max: job.total_bytes, value: job.have_bytes });
      const [have, total] = [job.have_bytes, job.total_bytes].map((size) => (size / 1e6).toFixed(1));
      set($("job-bytes"), `${job.label}: ${have} / ${total} MB`);
    }
    return true;
  });
}

function applying() {
  const box = $("applying");
  if (box.hidden) return;
  poll("/settings/applying", 500, ({ waiting, restarting, failed }) => {
    const left = [...new Set(restarting ? [restarting, ...waiting] : waiting)];
    if (left.length) set(box, `${texts["applying.waiting"]} ${left.join(", ")}`);
    else set(box, failed.length ? `${texts["applying.failed"]} ${failed.join(", ")}` : texts["applying.done"]);
    return left.length > 0;
  });
}

// --- logs and diagnosis -----------------------------------------------------

function showFindings(found) {
  const list = document.createElement("ul");
  for (const { check, verdict, detail, fix } of found.findings) {
    const line = document.createElement("li");
    line.textContent = `${texts[`verdict.${verdict}`]} · ${check}: ${detail}${fix ? ` → ${fix}` : ""}`;
    list.append(line);
  }
  $("findings").replaceChildren(list);
}

async function examine(chirp) {
  const buttons = [$("examine"), $("examine-chirp")];
  buttons.forEach((button) => { button.disabled = true; });
  set($("findings"), texts["doctor.running"]);
  try {
    const answer = await post("/doctor", { chirp: String(chirp) });
    const found = await answer.json();
    if (answer.ok) showFindings(found);
    else set($("findings"), found.detail);
  } catch {
    set($("findings"), texts.offline);
  } finally {
    buttons.forEach((button) => { button.disabled = false; });
  }
}

function logs() {
  $("examine").addEventListener("click", () => examine(false));
  $("examine-chirp").addEventListener("click", () => examine(true));
  const choice = $("process");
  if (!choice) return;
  const log = $("log");
  const kept = 2000;
  let next = -1;
  const follow = async () => {
    const process = choice.value;
    if (!document.hidden) {
      const answer = await fetch(`/logs/tail?${new URLSearchParams({ process, after: next })}`)
        .catch(() => null);
      if (answer?.ok && process === choice.value) {
        const { lines, next: position } = await answer.json();
        const bottom = log.scrollTop + log.clientHeight >= log.scrollHeight - 40;
        if (lines.length) {
          const all = log.textContent.split("\n").concat(lines).slice(-kept);
          log.textContent = all.join("\n");
        }
        if (bottom) log.scrollTop = log.scrollHeight;
        next = position;
      }
    }
    setTimeout(follow, 2000);
  };
  choice.addEventListener("change", () => {
    next = -1;
    log.textContent = "";
  });
  follow();
}

localTimes(document);
if (live?.dataset.live === "logs") {
  logs();
} else if (live?.dataset.live === "memory") {
  memory();
} else if (live?.dataset.live === "models") {
  models();
} else if (live?.dataset.live === "settings") {
  applying();
} else if (live) {
  const source = new EventSource("/events");
  if (live.dataset.live === "overview") overview(source);
  else source.addEventListener("state", (event) => {
    // sent on every connection too, so that no turn is missed before it
    if (JSON.parse(event.data).last_turn_id !== $("turns-part").dataset.last) refreshTurns();
  });
  addEventListener("pagehide", () => source.close());
}
