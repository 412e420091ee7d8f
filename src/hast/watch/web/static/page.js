// Draws what hast-monitor sends (hub.py). It words and decides nothing; every text enters the page as text.
"use strict";

const QUIET_S = 16; // a look may wait for the other node
const AGAIN_MS = 3000;
const GAP_S = 15;
const SVG = "http://www.w3.org/2000/svg";
const WORDS = { ok: "OK", warning: "Warning", critical: "Critical", unknown: "Unknown", none: "" };
const STATUS_LEVEL = { complete: "ok", synchronizing: "warning", degraded: "warning", "split-brain": "critical", unknown: "unknown" };
const KINDS = { failover: "fail-over", address: "address", event: "" };

const state = { view: null, points: [], series: [], windowS: 600, timeline: [], heardMs: 0, lostMs: 0, skewS: 0, drawn: {} };
const $ = (id) => document.getElementById(id);

// ---- elements -------------------------------------------------------------------------------------------------

function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const badge = (level, word) => el("span", { class: "badge", "data-level": level }, word);

function redraw(id, told, make) {
  // Only what changed, so that focus, selection and opened plans stay.
  const now = JSON.stringify(told);
  if (state.drawn[id] === now) return;
  state.drawn[id] = now;
  const place = $(id);
  const opened = new Set([...place.querySelectorAll("details[open]")].map((each) => each.dataset.key));
  place.replaceChildren(...make());
  for (const each of place.querySelectorAll("details")) each.open = each.open || opened.has(each.dataset.key);
}

// ---- words for figures ----------------------------------------------------------------------------------------

const short = (value) => value.toFixed(1).replace(/\.0$/, "");
const known = (value) => value !== null && value !== undefined;

function bytes(value) {
  if (!known(value)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit && value < 100 ? short(value) : Math.round(value)} ${units[unit]}`;
}

function lasting(seconds) {
  if (!known(seconds)) return "–";
  if (seconds < 1e-3) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${seconds < 0.01 ? short(seconds * 1e3) : Math.round(seconds * 1e3)} ms`;
  if (seconds < 10) return `${short(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.floor(whole / 60)} min ${whole < 600 ? `${whole % 60} s` : ""}`.trim();
  return whole < 172800 ? `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min` : `${Math.floor(whole / 86400)} days`;
}

const nowS = () => Date.now() / 1000 + state.skewS;

function clock(seconds) {
  const date = new Date(seconds * 1000);
  const time = date.toLocaleTimeString("en-GB");
  return Math.abs(nowS() - seconds) < 43200 ? time : `${date.toLocaleDateString("en-CA")} ${time}`;
}

const since = (seconds) => el("time", { "data-since": seconds, datetime: new Date(seconds * 1000).toISOString() }, lasting(Math.max(0, Math.round(nowS() - seconds))));

function tickClocks() {
  for (const each of document.querySelectorAll("time[data-since]")) {
    each.textContent = lasting(Math.max(0, Math.round(nowS() - Number(each.dataset.since))));
  }
}

// ---- the parts of the page ------------------------------------------------------------------------------------

function drawVerdict(view) {
  document.body.dataset.level = view.level;
  $("verdict-badge").dataset.level = view.level;
  $("verdict-badge").textContent = WORDS[view.level] || view.level;
  if ($("headline").textContent !== view.headline) $("headline").textContent = view.headline;
  const names = view.nodes.map((node) => node.name);
  $("pair").textContent = names.join(" ⇄ ");
  document.title = `${view.level === "ok" ? "" : `${WORDS[view.level]}: `}HAST ${names.join(" ⇄ ")}`;
  $("releases").textContent = view.nodes.filter((node) => node.release).map((node) => `${node.name}: hastd ${node.release}`).join("  ·  ");
}

function drawProblems(view) {
  $("problems").hidden = view.problems.length === 0;
  redraw("problems", view.problems, () => view.problems.map((problem) => {
    const [first, ...others] = problem.steps;
    return el("li", { "data-level": problem.level, "data-code": problem.code },
      el("div", { class: "problem-head" }, badge(problem.level, WORDS[problem.level]), el("strong", {}, problem.title)),
      problem.items.map((item) => el("p", { class: "told" }, el("b", {}, item.where), item.where && (item.text || known(item.since_s)) ? ": " : "",
        item.text, known(item.since_s) ? [item.text ? "; it lasts " : "for ", since(item.since_s)] : "")),
      first ? el("p", { class: "next" }, el("span", { class: "label" }, "Next step"), step(first)) : null,
      el("details", { "data-key": problem.code }, el("summary", {}, "What it means, what else to do"),
        el("p", {}, problem.meaning), others.length ? el("ol", { start: 2 }, others.map((each) => el("li", {}, step(each)))) : null,
        el("p", { class: "quiet" }, "More: ", el("code", {}, `hastctl explain ${problem.code}`))));
  }));
}

function step(told) {
  if (!told.command) return el("span", {}, told.text);
  const at = told.text.indexOf(told.command);
  return el("span", { class: "step" }, told.text.slice(0, at), command(told.command), told.text.slice(at + told.command.length));
}

function command(text) {
  const code = el("code", {}, text);
  const button = el("button", { type: "button", class: "copy", "aria-label": `Copy: ${text}` }, "Copy");
  button.addEventListener("click", async () => {
    button.textContent = (await copied(text, code)) ? "Copied" : "Select and copy";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  return el("span", { class: "command" }, code, button);
}

async function copied(text, code) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // No clipboard without TLS on another host: at least it is selected.
    getSelection().selectAllChildren(code);
    return false;
  }
}

function drawNodes(view) {
  redraw("nodes", view.nodes.map((node) => ({ ...node, time_s: 0, arbiter: node.arbiter && { ...node.arbiter, lease_left_s: 0 } })), () => view.nodes.map((node) => {
    const roles = Object.entries(node.roles).map(([role, count]) => el("span", { class: "role", "data-role": role }, `${role} for ${count}`));
    return el("article", { class: "panel node", "data-known": String(!node.error) },
      el("div", { class: "panel-head" }, el("h2", {}, node.name), el("span", { class: "quiet" }, node.here ? "this node" : "other node")),
      node.error ? el("p", { class: "told" }, badge(node.asked ? "unknown" : "none", node.asked ? "Not known" : "Not asked"), " ", node.error) : null,
      node.error ? null : el("dl", {},
        row("Roles", roles.length ? roles : "none"),
        row("Address", node.vhids.length ? node.vhids.map(vhid) : "no carpd here"),
        row("Services", node.services ? node.services.state : "–"),
        row("Fail-over", failover(node.failover)),
        node.arbiter ? row("Arbiter", arbiter(node.arbiter)) : null));
  }));
}

const row = (name, ...told) => el("div", {}, el("dt", {}, name), el("dd", {}, ...told));

function vhid(told) {
  const level = told.link === "down" || told.link === "missing" ? "warning" : "none";
  return el("div", { class: "vhid" }, el("span", { class: "role", "data-role": told.state.toLowerCase() }, told.state),
    ` vhid ${told.vhid}${told.interface ? ` on ${told.interface}` : ""}`, told.addresses.length ? ` · ${told.addresses.join(", ")}` : "",
    told.since_s ? [" · for ", since(told.since_s)] : null,
    level === "none" ? null : [" ", badge(level, `link ${told.link}`)], told.note ? ` · ${told.note}` : "");
}

function failover(run) {
  if (!run) return "none is remembered";
  const level = { done: "ok", failed: "critical", running: "warning" }[run.phase] || "none";
  const took = known(run.started_s) && known(run.finished_s) && run.phase !== "running" ? `, took ${lasting(run.finished_s - run.started_s)}` : "";
  const ago = known(run.finished_s) && run.phase !== "running" ? [", ", since(run.finished_s), " ago"] : known(run.started_s) ? [" for ", since(run.started_s)] : null;
  return [el("span", {}, `${run.verb} `), badge(level, run.phase === "running" ? "under way" : run.phase), took, ago,
    run.step && run.phase === "running" ? `: ${run.step}` : "", run.failures.map((each) => el("div", { class: "told" }, each))];
}

function arbiter(told) {
  const [level, word] = { serve: ["ok", "may write"], freeze: ["critical", "holds writes"], "step down": ["critical", "steps down"] }[told.verdict];
  return [badge(level, word), told.alone ? " · on record as the only whole copy" : ""];
}

function drawResources(view) {
  const other = view.nodes[1] ? view.nodes[1].name : "Other node";
  $("head-here").textContent = view.nodes[0] ? view.nodes[0].name : "This node";
  $("head-there").textContent = view.nodes.length > 2 ? "Other node" : other;
  $("no-resources").hidden = view.resources.length > 0;
  $("resources").hidden = view.resources.length === 0;
  const body = $("resources").tBodies[0];
  body.id = "resource-rows";
  redraw("resource-rows", view.resources, () => view.resources.flatMap((resource) => [resourceRow(resource, view), ...detailRow(resource)]));
}

const cell = (label, attributes, ...told) => el("td", { role: "cell", "data-label": label, ...attributes }, ...told);

function resourceRow(resource, view) {
  const link = resource.tls === "on" ? "TLS" : resource.tls === "off" || resource.tls === "none" ? "open link" : "";
  return el("tr", { role: "row", "data-resource": resource.name, "data-status": resource.status },
    el("th", { scope: "row", role: "rowheader" }, resource.name),
    cell("State", {}, badge(STATUS_LEVEL[resource.status] || "none", resource.status === "-" ? "not in use" : resource.status)),
    cell(view.nodes[0].name, { class: "side" }, side(resource.here, "–")),
    cell(resource.other || "Other node", { class: "side" }, side(resource.there, resource.there_error ? "not known" : "not there")),
    cell("Size", { class: "num" }, resource.size_bytes ? bytes(resource.size_bytes) : "–"),
    cell("At risk", { class: "num" }, bytes(resource.at_risk_bytes)),
    cell("Mode", { class: "quiet" }, [resource.replication, link].filter(Boolean).join(", ")));
}

function side(told, otherwise) {
  if (!told) return el("span", { class: "quiet" }, otherwise);
  return [el("span", { class: "role", "data-role": told.role }, told.role), " ", el("span", { class: "copy-state", "data-level": told.copy.level }, told.copy.word),
    told.transition ? el("span", { class: "quiet" }, ` → ${told.transition}`) : null];
}

function detailRow(resource) {
  const parts = [];
  if (resource.sync) parts.push(syncBar(resource.sync));
  if (resource.split) parts.push(splitBox(resource.split));
  return parts.length ? [el("tr", { class: "detail", role: "row" }, el("td", { colspan: 7, role: "cell" }, parts))] : [];
}

function syncBar(sync) {
  const percent = (sync.share * 100).toFixed(1);
  const bar = el("span", {});
  bar.style.width = `${percent}%`;
  return el("div", { class: "sync" },
    el("span", { class: "sync-way" }, `${sync.source} → ${sync.target}`),
    el("div", { class: "bar", role: "progressbar", "aria-label": `Copying from ${sync.source} to ${sync.target}`, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": percent }, bar),
    el("strong", {}, `${percent} %`),
    el("span", { class: "quiet" }, `${bytes(sync.done_bytes)} of ${bytes(sync.total_bytes)}${sync.rate_bytes_s ? ` · ${bytes(sync.rate_bytes_s)}/s` : ""} · ${known(sync.left_s) ? `${lasting(sync.left_s)} left` : "time left not known yet"}`));
}

function splitBox(split) {
  const figure = (label, value, more) => el("div", { class: "split-side" }, el("span", { class: "label" }, label), el("strong", {}, known(value) ? bytes(value) : "not told"), more);
  return el("div", { class: "split" },
    split.sides.map((each) => figure(`changed on ${each.node} alone`, each.bytes, known(each.since_s) ? el("span", { class: "quiet" }, `since ${clock(each.since_s)}`) : null)),
    figure("differ, at most", split.differing_bytes, split.together.length ? el("span", { class: "quiet" }, `one pool with ${split.together.join(", ")}`) : null));
}

function drawTimeline() {
  redraw("timeline", state.timeline, () => state.timeline.length ? state.timeline.map((entry) => el("li", { "data-level": entry.level, "data-kind": entry.kind },
    el("time", { datetime: new Date(entry.time_s * 1000).toISOString() }, clock(entry.time_s)),
    el("span", { class: "mark", "data-level": entry.level, role: "img", "aria-label": WORDS[entry.level] || entry.level }),
    el("span", { class: "event" }, KINDS[entry.kind] || entry.event),
    el("span", { class: "text" }, [entry.node, entry.resource].filter(Boolean).join(" "), entry.text ? `: ${entry.text}` : ""))) : [el("li", { class: "quiet" }, "Nothing is remembered.")]);
}

function drawPlans(view) {
  orderPlansChanged(view);
  $("plans").hidden = view.plans.length === 0;
  redraw("plan-list", [view.plans, orders.there, orders.refused], () => view.plans.map((plan) => el("details", { class: "plan", "data-key": plan.title },
    el("summary", {}, el("span", {}, plan.title), " ", badge(plan.ready ? "ok" : "warning", plan.ready ? "possible now" : "not now")),
    el("p", { class: "label" }, "What has to be true"),
    el("ul", { class: "checks" }, plan.checks.map((check) => el("li", {}, badge(check.ok ? "ok" : "warning", check.ok ? "yes" : "no"), " ", check.text))),
    el("p", { class: "label" }, "Commands, in this order"),
    el("ol", { class: "commands" }, plan.steps.map((each) => el("li", {}, el("span", { class: "on" }, `on ${each.node}`), command(each.command)))),
    el("p", { class: "told" }, plan.notice), orderControl(plan))));
}

// ---- plots ----------------------------------------------------------------------------------------------------

const PLOTS = {
  bytes: { series: [["read_bytes_s", "read"], ["write_bytes_s", "write"], ["sync_bytes_s", "resync"]], together: (a, b) => a + b, word: (value) => (known(value) ? `${bytes(value)}/s` : "–"), scale: linear },
  latency: { series: [["read_p99_s", "read"], ["write_p99_s", "write here"], ["peer_write_p99_s", "write there"]], together: (a, b) => Math.max(a, b), word: lasting, scale: logarithmic },
};

function linear(values) {
  const unit = 1024 ** Math.floor(Math.log(Math.max(...values, 1024)) / Math.log(1024));
  const highest = Math.max(...values, 1024) / unit;
  const stepped = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024].find((each) => each >= highest) || highest;
  const top = stepped * unit;
  return { ticks: [0, top / 2, top], at: (value) => value / top };
}

function logarithmic(values) {
  const low = Math.floor(Math.log10(Math.min(...values, 1e-4) || 1e-5));
  const high = Math.max(low + 2, Math.ceil(Math.log10(Math.max(...values, 1e-3))));
  const ticks = [];
  for (let power = low; power <= high; power += high - low > 4 ? 2 : 1) ticks.push(10 ** power);
  return { ticks, at: (value) => Math.max(0, (Math.log10(value) - low) / (high - low)) };
}

function valuesOf(key, together) {
  const at = state.series.indexOf(key);
  const wanted = $("plotted").value;
  return state.points.map((point) => {
    const of = wanted ? [point.r[wanted]] : Object.values(point.r);
    const values = of.filter((each) => each && known(each[at])).map((each) => each[at]);
    return { t: point.t, value: values.length ? values.reduce(together) : null };
  });
}

function drawPlot(name) {
  const plot = PLOTS[name];
  const place = $(`plot-${name}`);
  const width = Math.max(240, place.clientWidth), height = 168, left = 66, bottom = 20, top = 8, right = 8;
  const end = state.points.length ? Math.max(nowS(), state.points.at(-1).t) : nowS();
  const lines = plot.series.map(([key, label]) => ({ label, values: valuesOf(key, plot.together).filter((each) => each.t >= end - state.windowS) }));
  const shown = lines.flatMap((line) => line.values.map((each) => each.value).filter(known));
  const scale = plot.scale(shown.filter((value) => value > 0));
  const x = (t) => left + (width - left - right) * (1 - (end - t) / state.windowS);
  const y = (value) => top + (height - top - bottom) * (1 - Math.min(1, scale.at(value)));
  const drawn = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img" });
  for (const tick of scale.ticks) {
    drawn.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }), svg("text", { class: "tick", x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, tick ? plot.word(tick) : "0"));
  }
  for (let minutes = width < 420 ? 8 : 10; minutes >= 0; minutes -= width < 420 ? 4 : 2) {
    drawn.append(svg("text", { class: "tick", x: x(end - minutes * 60), y: height - 4, "text-anchor": minutes === 0 ? "end" : minutes === 10 ? "start" : "middle" }, minutes ? `−${minutes} min` : "now"));
  }
  lines.forEach((line, index) => drawn.append(svg("path", { class: `line line-${index}`, d: path(line.values, x, y) })));
  if (!shown.length) drawn.append(svg("text", { class: "tick", x: (left + width) / 2, y: height / 2, "text-anchor": "middle" }, "Nothing was measured yet"));
  drawn.setAttribute("aria-label", lines.map((line) => `${line.label} ${plot.word(latest(line.values))}`).join(", "));
  place.replaceChildren(drawn);
  $(`legend-${name}`).replaceChildren(...lines.map((line, index) => el("li", {}, sample(index), `${line.label} `, el("b", {}, plot.word(latest(line.values))))));
}

function path(values, x, y) {
  let before = null, made = "";
  for (const { t, value } of values) {
    if (!known(value)) { before = null; continue; }
    made += `${before !== null && t - before <= GAP_S ? "L" : "M"}${x(t).toFixed(1)} ${y(value).toFixed(1)}`;
    if (before === null) made += "h.1";
    before = t;
  }
  return made;
}

const latest = (values) => (values.length ? values.at(-1).value : null);
const sample = (index) => svg("svg", { width: 26, height: 8, "aria-hidden": "true" }, svg("line", { class: `line line-${index}`, x1: 1, x2: 25, y1: 4, y2: 4 }));

function drawPlots() {
  const names = state.view.resources.map((resource) => resource.name);
  const chosen = $("plotted").value;
  redraw("plotted", names, () => [el("option", { value: "" }, "all resources"), ...names.map((name) => el("option", { value: name }, name))]);
  $("plotted").value = names.includes(chosen) ? chosen : "";
  Object.keys(PLOTS).forEach(drawPlot);
}

// ---- live -----------------------------------------------------------------------------------------------------

function draw() {
  drawVerdict(state.view);
  drawProblems(state.view);
  drawNodes(state.view);
  drawResources(state.view);
  drawPlots();
  drawTimeline();
  drawPlans(state.view);
  drawLive();
}

function drawLive() {
  const staleS = state.lostMs ? state.heardMs / 1000 + state.skewS : state.view ? state.view.stale_since_s : null;
  document.body.dataset.live = state.lostMs ? (state.view ? "lost" : "connecting") : staleS ? "stale" : "live";
  const word = state.lostMs ? (state.view ? "Not connected, trying again" : "Connecting…") : staleS ? "hastd does not answer" : `Live · ${clock(nowS())}`;
  if ($("live-text").textContent !== word) $("live-text").textContent = word;
  $("stale").hidden = !(staleS && state.view);
  if (staleS && state.view) {
    const told = `stale since ${clock(staleS)}`;
    const key = told + word;
    if ($("stale").dataset.told !== key) {
      $("stale").dataset.told = key;
      $("stale").replaceChildren(`${state.lostMs ? "This page has lost hast-monitor" : "hastd does not answer"}: all below is `, el("b", {}, told), ", for ", since(staleS), ".");
    }
  }
}

function take(told) {
  state.heardMs = Date.now();
  state.lostMs = 0;
  state.view = told.view;
  state.skewS = told.view.now_s - Date.now() / 1000;
  if (told.history) { state.series = told.history.series; state.windowS = told.history.window_s; state.points = told.history.points; }
  if (told.point) state.points.push(told.point);
  state.points = state.points.filter((point) => point.t >= told.view.now_s - state.windowS);
  if (told.timeline) state.timeline = told.timeline;
  draw();
  askForOrders();
}

function connect() {
  const live = new EventSource("/live");
  const heard = (event) => take(JSON.parse(event.data));
  live.addEventListener("hello", heard);
  live.addEventListener("tick", heard);
  live.addEventListener("error", () => {
    lost();
    if (live.readyState === EventSource.CLOSED) setTimeout(connect, AGAIN_MS); // refused: the browser does not come again by itself
  });
}

function lost() {
  state.lostMs = state.lostMs || Date.now();
  drawLive();
}

setInterval(() => {
  if (state.heardMs && Date.now() - state.heardMs > QUIET_S * 1000) lost();
  tickClocks();
  drawLive();
}, 1000);
$("plotted").addEventListener("change", () => Object.keys(PLOTS).forEach(drawPlot));
addEventListener("resize", () => { if (state.view) Object.keys(PLOTS).forEach(drawPlot); });
connect();
