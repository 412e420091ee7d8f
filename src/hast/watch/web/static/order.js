// Orders a plan from the page (orders.py, hast-order(8)): shows it once more, asks for the token, tells what comes back.
// The token is in this variable only: never in a cookie, in storage, or in the address; a reload forgets it.
"use strict";

const KEEP_TOKEN_MS = 5 * 60 * 1000;
const ASK_AGAIN_MS = 10000;
const RESULTS = { done: ["ok", "Done"], failed: ["critical", "Failed"], refused: ["warning", "Refused"], unfinished: ["warning", "Not ended yet"], unknown: ["unknown", "Not known"] };

const orders = { there: false, refused: "", askedMs: 0, token: "", tokenMs: 0, plan: null, isRunning: false, isOver: false };

async function askForOrders() {
  if (Date.now() - orders.askedMs < ASK_AGAIN_MS) return;
  orders.askedMs = Date.now();
  try {
    const told = await (await fetch("/order", { cache: "no-store" })).json();
    Object.assign(orders, { there: told.there === true, refused: String(told.refused || "") });
  } catch {
    orders.there = false;
  }
  $("how-ordered").textContent = orders.there && !orders.refused
    ? "Read the plan, then carry it out here with the order token, or run its commands as root on the node that is named."
    : "Read the plan, then run its commands as root on the node that is named.";
  if (state.view) drawPlans(state.view);
}

// ---- under each plan ------------------------------------------------------------------------------------------

function orderControl(plan) {
  if (!orders.there) return null;
  if (orders.refused || !plan.order) return el("p", { class: "quiet" }, orders.refused || plan.why_not);
  const button = el("button", { type: "button", class: "go", disabled: !plan.ready, "aria-label": `Carry out: ${plan.title}` }, "Carry out…");
  button.addEventListener("click", () => openOrder(plan));
  return el("p", { class: "carry" }, button, plan.ready ? null : el("span", { class: "quiet" }, "Not everything above is true."));
}

function orderPlansChanged(view) {
  // What is shown in the dialog stays as it was; a plan that is another one now cannot be ordered.
  if (!orders.plan || orders.isRunning || orders.isOver) return;
  if (!view.plans.some((plan) => plan.fingerprint === orders.plan.fingerprint)) {
    $("order-go").disabled = true;
    showState("warning", "Changed", "What has to be true has changed since: close this, and look at the plan again.");
  }
}

// ---- the dialog -----------------------------------------------------------------------------------------------

function openOrder(plan) {
  if (orders.isRunning) { $("order").showModal(); return; }
  Object.assign(orders, { plan, isRunning: false, isOver: false });
  if (Date.now() - orders.tokenMs > KEEP_TOKEN_MS) forgetToken();
  $("order-title").textContent = plan.title;
  $("order-plan").replaceChildren(el("div", {},
    el("ul", { class: "checks" }, plan.checks.map((check) => el("li", {}, badge(check.ok ? "ok" : "warning", check.ok ? "yes" : "no"), " ", check.text))),
    el("p", { class: "label" }, `Carried out on ${plan.steps[0].node}, as root`),
    el("p", {}, el("code", { class: "carried" }, plan.order.command)),
    plan.steps.length > 1 ? [el("p", { class: "label" }, "Afterwards, by you"), el("ol", { class: "commands" }, plan.steps.slice(1).map((each) => el("li", {}, el("span", { class: "on" }, `on ${each.node}`), el("code", {}, each.command))))] : null,
    el("p", { class: "told" }, plan.notice)));
  $("order-fields").replaceChildren(...tokenField(), ...typedField(plan.order.type));
  $("order-fields").hidden = false;
  $("order-progress").hidden = true;
  $("order-lines").replaceChildren();
  $("order-go").hidden = $("order-go").disabled = false;
  $("order-close").textContent = "Cancel";
  $("order").showModal();
  ($("order-token") || $("order-typed") || $("order-close")).focus();
}

function tokenField() {
  if (orders.token) {
    const forget = el("button", { type: "button" }, "Forget it");
    forget.addEventListener("click", () => { forgetToken(); $("order-fields").replaceChildren(...tokenField(), ...typedField(orders.plan.order.type)); $("order-token").focus(); });
    return [el("p", { class: "quiet" }, "The order token is known to this page for some minutes more. ", forget)];
  }
  return [el("label", { for: "order-token" }, "Order token"), el("input", { id: "order-token", type: "password", autocomplete: "off", autocapitalize: "off", spellcheck: "false", required: true })];
}

function typedField(wanted) {
  if (!wanted) return [];
  return [el("label", { for: "order-typed" }, "Type ", el("b", {}, wanted), " to confirm"), el("input", { id: "order-typed", type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false", required: true })];
}

function forgetToken() {
  Object.assign(orders, { token: "", tokenMs: 0 });
}

function showState(level, word, text) {
  $("order-progress").hidden = false;
  $("order-state").replaceChildren(badge(level, word), " ", text);
}

async function carryOut() {
  const plan = orders.plan;
  const typed = $("order-typed") ? $("order-typed").value.trim() : "";
  if (typed !== plan.order.type) { showState("warning", "Not yet", `${plan.order.type} has to be typed as it is.`); return; }
  if ($("order-token")) orders.token = $("order-token").value.trim();
  orders.tokenMs = Date.now();
  orders.isRunning = true;
  $("order-fields").replaceChildren();
  $("order-go").hidden = true;
  $("order-close").textContent = "Close";
  $("order-close").focus();
  showState("none", "Under way", "It goes on when this is closed.");
  const [result, text] = await sent({ token: orders.token, action: plan.order.action, targets: plan.order.targets, seen: plan.fingerprint, typed });
  if (result === "refused") forgetToken();
  Object.assign(orders, { isRunning: false, isOver: true });
  showState(...(RESULTS[result] || RESULTS.unknown), text);
}

async function sent(order) {
  // The result and its words; lines are shown as they come.
  const lost = ["unknown", "The answer was lost. What was begun goes on: look at the page, and at the journal (hast-order)."];
  try {
    const answer = await fetch("/order", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(order), cache: "no-store" });
    if (!answer.ok) return ["refused", (await answer.text()).trim() || `HTTP ${answer.status}`];
    let result = null;
    for await (const told of linesOf(answer.body)) {
      if (told.result) result = [told.result, String(told.text)];
      else $("order-lines").append(el("li", { "data-of": told.of }, told.line));
      $("order-lines").scrollTop = $("order-lines").scrollHeight;
    }
    return result || lost;
  } catch {
    return lost;
  }
}

async function* linesOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}

document.getElementById("order-form").addEventListener("submit", (event) => { event.preventDefault(); if (orders.plan && !orders.isRunning && !orders.isOver) carryOut(); });
document.getElementById("order-close").addEventListener("click", () => $("order").close());
document.getElementById("order").addEventListener("close", () => {
  if ($("order").open) return; // the event comes late, and it is open again
  if (!orders.isRunning) orders.plan = null;
  $("order-fields").replaceChildren();
});
setInterval(() => { if (orders.token && !orders.isRunning && Date.now() - orders.tokenMs > KEEP_TOKEN_MS) forgetToken(); }, 5000);
