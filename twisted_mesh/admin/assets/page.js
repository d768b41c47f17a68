// The page of a node. It reads the node's paths (docs/http.rst) and draws what they say.
// Whatever a node says is put into the page as text: textContent and attributes, never markup; said() escapes it.
"use strict";

const STATUS_MS = 1000, GRAPH_MS = 2500, RETRY_MS = 2000, KEPT = 200, REFRESH_MS = 150;
const DRAWN = 300; // nodes of the graph, and rows of a table: each step of the graph costs the square of them, 1 ms (measured)
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let token = takeToken();
let status = null, map = [], shown = null, lastEvent = null, clock = 0; // clock: the node's, in seconds since 1970
let labels = new Map(); // of the members and this node, by id
const receipts = new Map(); // of own messages, by "epoch/sequence"

// ---- the node ----

function takeToken() {
  const given = location.hash.slice(1);
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname); // out of the address bar, the history and screenshots
  }
  return given || sessionStorage.getItem("token") || "";
}

function ask(path, options = {}) {
  const headers = token ? { Authorization: `Bearer ${token}`, ...options.headers } : options.headers;
  return fetch(path, { ...options, headers, cache: "no-store", redirect: "error" });
}

async function read(path, options) {
  const answer = await ask(path, options);
  clock = Date.parse(answer.headers.get("date")) / 1000 || clock;
  const told = said(await answer.text());
  if (!answer.ok) throw new Error(answer.status === 401 ? "no token, or a wrong one: open the address that mesh page prints" : told.error);
  return told;
}

const said = (json) => JSON.parse(json, (_, value) => (typeof value === "string" ? escaped(value) : value));
const post = (path, body) => read(path, { method: "POST", body: JSON.stringify(body) });

function say(text, bad = false) {
  $("state").textContent = text;
  $("state").className = bad ? "bad" : "";
}

async function poll() {
  for (;;) {
    try {
      status = await read("status");
      say("connected");
      show();
    } catch (error) {
      say(error instanceof TypeError ? "the node does not answer" : error.message, true);
    }
    await pause((document.hidden ? 5 : 1) * (STATUS_MS + 5 * places.size));
  }
}

async function pollGraph() {
  for (;;) {
    try {
      map = await read("graph");
      redraw();
    } catch (error) { /* poll() says what is wrong */ }
    await pause(document.hidden ? 10 * GRAPH_MS : GRAPH_MS);
  }
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function follow() {
  for (;;) {
    try {
      const answer = await ask("events", lastEvent ? { headers: { "Last-Event-ID": lastEvent } } : {});
      if (answer.ok) await readEvents(answer.body.pipeThrough(new TextDecoderStream()).getReader());
    } catch (error) { /* as above */ }
    await pause(RETRY_MS);
  }
}

async function readEvents(reader) {
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => {
        const at = line.indexOf(": ");
        return [line.slice(0, at), line.slice(at + 2)];
      }));
      if (!fields.event) continue;
      lastEvent = fields.id;
      happened(fields.event, said(fields.data));
    }
  }
}

// ---- words ----

const short = (id) => id.slice(0, 8);
// As for_terminal() of twisted_mesh.escaping: no character turns the text around it, or shows nothing.
function escaped(text) {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}\u115f\u1160\u3164\uffa0]/gu, (char) => {
    const code = char.codePointAt(0), digits = code.toString(16);
    if ([0x09, 0x200c, 0x200d].includes(code)) return char; // the joiners of some scripts
    return code < 0x100 ? `\\x${digits.padStart(2, "0")}` : code < 0x10000 ? `\\u${digits.padStart(4, "0")}` : `\\U${digits.padStart(8, "0")}`;
  });
}
const isolated = (text) => `\u2068${escaped(text)}\u2069`; // as <bdi>, also where there is no markup
const label = (id) => (labels.get(id) ? isolated(labels.get(id)) : short(id));
const name = (id, text) => (text ? `${isolated(text)} (${short(id)})` : short(id));
function duration(seconds) {
  for (const [unit, text] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= unit) return `${Math.floor(seconds / unit)} ${text}`;
  }
  return `${Math.max(0, Math.floor(seconds))} s`;
}
function bytes(count) {
  for (const [unit, text] of [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [1024, "KiB"]]) {
    if (count >= unit) return `${(count / unit).toFixed(1)} ${text}`;
  }
  return `${count} B`;
}
const packets = (values) => values.map((value) => (typeof value === "string" ? value : JSON.stringify(value))).join(" ");

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function drawn(tag, attributes, className) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  if (className) made.setAttribute("class", className);
  return made;
}

// ---- tables ----

function rows(id, values) {
  $(id).replaceChildren(...values.map((cells) => {
    const row = element("tr");
    row.append(...cells.map(([text, className]) => element("td", text, className)));
    return row;
  }));
}

// All of *values*, or DRAWN of them: first those of which *isWell* is false.
function most(values, isWell) {
  return values.length <= DRAWN ? [...values] : [...values].sort((one, other) => isWell(one) - isWell(other)).slice(0, DRAWN);
}

// ``1 node``, ``2 nodes``
const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

function show() {
  const { node, members, authors, links, warnings } = status;
  const now = clock || Date.now() / 1000;
  labels = new Map([node, ...members].map((member) => [member.id, member.label]));
  document.title = `${node.label || short(node.id)} · mesh`;
  $("title").textContent = name(node.id, node.label);
  const up = members.filter((member) => member.state === "up").length;
  $("about").textContent = `${node.subnet}, up for ${duration(node.uptime_seconds)}, ${up + 1} of ${members.length + 1} nodes up`;
  $("warnings").hidden = !warnings.length;
  $("warnings").replaceChildren(...warnings.map((warning) => element("li", warning)));
  const called = (each) => each.label || each.id || each.peer;
  const byName = (one, other) => called(one).localeCompare(called(other));
  rows("members", most(members, (member) => member.state === "up").sort(byName).map((member) => [
    [name(member.id, member.label)], [member.state, member.state], [duration(now - member.since_unix_seconds), "number"],
  ]));
  rows("authors", most(authors, (author) => !author.missing && author.head === author.taken).sort(byName).map((author) => [
    [name(author.id, author.label)], [author.head, "number"], [author.missing, "number"], [author.head - author.taken, "number"],
  ]));
  rows("links", [...links].sort(byName).map((link) => [
    [name(link.peer, link.label)],
    [link.round_trip_seconds === null ? "-" : `${(link.round_trip_seconds * 1000).toFixed(1)} ms`, "number"],
    [bytes(link.received_bytes), "number"], [bytes(link.sent_bytes), "number"],
  ]));
  redraw();
}

// ---- events, messages and receipts ----

function add(list, item) {
  $(list).prepend(item);
  while ($(list).children.length > KEPT) $(list).lastChild.remove();
}

let refreshing = 0;
function refreshSoon() {
  clearTimeout(refreshing);
  refreshing = setTimeout(async () => {
    try {
      [status, map] = await Promise.all([read("status"), read("graph").catch(() => map)]);
      show();
    } catch (error) { /* poll() says what is wrong */ }
  }, REFRESH_MS);
}

function happened(event, data) {
  if (event === "message") {
    if (data.sequence) addMessage(data.sender, data.epoch, data.sequence, packets(data.packets));
    return;
  }
  if (event === "receipt") {
    fill(`${data.epoch}/${data.sequence}`, data.delivered, data.pending, data.missed);
    return;
  }
  const told = {
    member: () => `${name(data.id, data.label)} ${{ left: "has left", gone: "is forgotten" }[data.state] || `is ${data.state}`}`,
    gap: () => `${data.first === data.last ? `message ${data.first}` : `messages ${data.first} to ${data.last}`} of ${label(data.sender)} will not come: ${data.reason}`,
    connect: () => "this node has a neighbour again",
    disconnect: () => "this node has no neighbour any more",
    refused: () => `refused: ${data.detail || data.reason}`,
    failure: () => `failure: ${data.error}`,
    caught_up: () => `caught up: ${counted(data.messages, "message")} of ${counted(data.authors, "author")} in ${data.seconds.toFixed(1)} s`,
    missed: () => `${counted(data.events, "event")} came too fast for this page`,
  }[event]?.() ?? event;
  const item = element("li");
  item.append(element("span", `${new Date().toLocaleTimeString()} `, "when"), element("span", told));
  add("events", item);
  refreshSoon();
}

function addMessage(author, epoch, sequence, text) {
  $("no-messages").hidden = true;
  const item = element("li"), button = element("button");
  button.type = "button";
  button.append(element("span", `${label(author)}: `, "who"), element("span", isolated(text.slice(0, 500))), element("span", `  #${sequence}`, "when"));
  button.addEventListener("click", () => trace(author, epoch, sequence, button));
  item.append(button);
  add("messages", item);
  return item;
}

function fill(key, delivered, pending, missed) {
  const total = delivered + pending + missed || 1;
  receipts.set(key, { delivered, pending, missed });
  if (receipts.size > KEPT) receipts.delete(receipts.keys().next().value);
  const bar = document.querySelector(`[data-receipt="${CSS.escape(key)}"]`);
  if (!bar) return;
  bar.setAttribute("aria-label", `${delivered} of ${total} have it`);
  bar.replaceChildren(
    drawn("rect", { width: `${(100 * delivered) / total}%`, height: "100%" }),
    drawn("rect", { x: `${(100 * (total - missed)) / total}%`, width: `${(100 * missed) / total}%`, height: "100%" }, "missed"),
  );
}

async function send(event) {
  event.preventDefault();
  const text = $("text").value;
  if (!text || !status) return;
  $("text").value = "";
  $("send-state").textContent = "on its way";
  try {
    if ($("from").value && $("from").value !== status.node.label) {
      await act({ action: "send", node: $("from").value, text });
      $("send-state").textContent = "";
      return;
    }
    const first = await post("send", { packets: [text], wait_seconds: 0.05 });
    const key = `${first.epoch}/${first.sequence}`;
    const item = addMessage(status.node.id, first.epoch, first.sequence, text);
    const bar = drawn("svg", { "data-receipt": key, role: "img" }, "fill");
    item.append(bar);
    const known = receipts.get(key);
    const counts = [first.delivered.length, first.pending.length, first.missed.length];
    if (known && known.delivered > counts[0]) fill(key, known.delivered, known.pending, known.missed);
    else fill(key, ...counts);
    $("send-state").textContent = "sent: its bar below fills as members take it";
  } catch (error) {
    $("send-state").textContent = error.message;
  }
}

// ---- the way of a message ----

let traces = 0; // how many were begun or closed: the answer to an earlier one is not shown
async function trace(author, epoch, sequence, button) {
  const number = ++traces;
  for (const other of document.querySelectorAll("#messages [aria-pressed]")) other.removeAttribute("aria-pressed");
  button?.setAttribute("aria-pressed", "true");
  $("trace").hidden = false;
  $("trace-title").textContent = `Message ${sequence} of ${label(author)}`;
  $("trace-note").textContent = "asking all members";
  $("trace-steps").replaceChildren();
  try {
    const told = await post("trace", { author, epoch, sequence });
    if (number !== traces) return;
    shown = told;
  } catch (error) {
    if (number !== traces) return;
    shown = null;
    $("trace-note").textContent = error.message;
    return redraw();
  }
  const without = shown.steps.filter((step) => step.state !== "came");
  $("trace-note").textContent = `${shown.steps.length - without.length} of ${shown.steps.length} nodes say by which way it came`;
  $("trace-steps").replaceChildren(...ordered(shown).map((step) => {
    const who = name(step.id, step.label);
    if (step.state !== "came") {
      const why = { missing: "has not got it", silent: "did not answer", listens: "may only listen, and is not asked", down: "is down", forgotten: "has it, or will not get it" };
      return element("li", `${who}: ${why[step.state] || step.state}`, "without");
    }
    if (step.source === null) return element("li", step.id === author ? `${who} sent it` : `${who} does not say from whom it came`);
    const held = step.held_seconds === null ? "" : `, taken after ${Math.round(step.held_seconds * 1000)} ms`;
    const way = step.repaired ? "by repair" : "pushed";
    const hops = step.hops ? `${step.hops + 1} hops` : "1 hop";
    return element("li", `${who}: ${way} by ${label(step.source)}, ${hops}${held}`, step.repaired ? "repaired" : "");
  }));
  redraw();
}

// Those that say that it came first, by the number of hops. Claims may be false: nothing here follows them round.
function ordered({ author, steps }) {
  const rank = (step) => (step.id === author ? -1 : step.state === "came" ? step.hops : 1000);
  return [...steps].sort((one, other) => rank(one) - rank(other));
}

function closeTrace() {
  traces++;
  shown = null;
  $("trace").hidden = true;
  for (const button of document.querySelectorAll("#messages [aria-pressed]")) button.removeAttribute("aria-pressed");
  redraw();
}

// ---- the demo ----

async function beginDemo() {
  try {
    if (!(await read("page")).demo) return;
    showDemo(await read("demo"));
  } catch (error) { return; } // poll() says what is wrong
  $("demo").hidden = $("from").hidden = false;
  $("demo-cut").addEventListener("click", () => tryTo({ action: "cut" }));
  $("demo-heal").addEventListener("click", () => tryTo({ action: "heal" }));
}

const act = async (action) => showDemo(await post("demo", action));

async function tryTo(action) {
  try {
    $("demo-state").textContent = "";
    await act(action);
    refreshSoon();
  } catch (error) {
    $("demo-state").textContent = error.message;
  }
}

function showDemo({ nodes, cut }) {
  $("demo-cut").disabled = cut;
  $("demo-heal").disabled = !cut;
  $("demo-nodes").replaceChildren(...nodes.map(({ label: node, running }, at) => {
    const row = element("div");
    row.append(element("span", running ? node : `${node} (ended)`));
    for (const action of running ? ["stop", "kill"] : ["start"]) {
      const button = element("button", action);
      button.type = "button";
      button.disabled = at === 0;
      button.setAttribute("aria-label", `${action} ${node}`);
      button.addEventListener("click", () => tryTo({ action, node }));
      row.append(button);
    }
    return row;
  }));
  const chosen = $("from").value;
  $("from").replaceChildren(...nodes.filter(({ running }) => running).map(({ label: node }) => {
    const option = element("option", `from ${node}`);
    option.value = node;
    option.selected = node === chosen;
    return option;
  }));
}

// ---- the graph: nodes push each other away, links pull, and all is pulled to the middle ----

const places = new Map(); // id -> {x, y, vx, vy}
let edges = [], heat = 0, ticking = false, isArranged = false, painted = "";

function redraw() {
  if (!status) return;
  const all = new Map(status.members.map((member) => [member.id, member.state]));
  all.set(status.node.id, "up");
  const states = chosen(all);
  const left = states.size < all.size ? `${counted(all.size - states.size, "node")} not drawn` : "";
  $("undrawn").textContent = left;
  for (const id of [...places.keys()]) if (!states.has(id)) places.delete(id);
  let angle = places.size * 2.4, isNew = false;
  for (const id of states.keys()) {
    if (places.has(id)) continue;
    places.set(id, { x: 90 * Math.cos(angle), y: 90 * Math.sin(angle), vx: 0, vy: 0 });
    angle += 2.4;
    isNew = true;
  }
  const claims = new Map();
  const claim = (one, other) => {
    const key = one < other ? `${one} ${other}` : `${other} ${one}`;
    claims.set(key, (claims.get(key) || new Set()).add(one));
  };
  const gone = (id) => !states.has(id) || ["down", "left"].includes(states.get(id));
  for (const each of map) for (const other of each.neighbours) if (!gone(each.id) && !gone(other)) claim(each.id, other);
  for (const link of status.links) if (!gone(link.peer)) { claim(status.node.id, link.peer); claim(link.peer, status.node.id); }
  const now = [...claims].map(([key, who]) => [...key.split(" "), who.size]);
  if (isNew || JSON.stringify(now) !== JSON.stringify(edges)) heat = 1;
  if (map.length && !isArranged) { isArranged = true; arrange(now); heat = 1; }
  edges = now;
  const up = [...all.values()].filter((state) => state === "up").length;
  $("graph").setAttribute("aria-label", `${all.size} nodes, ${up} of them up, ${edges.length} links${left && `; ${left}`}`);
  const picture = JSON.stringify([[...states].map((each) => [...each, labels.get(each[0])]), now, shown]);
  if (picture !== painted) { painted = picture; paint(states); }
  if (calm.matches) { for (let step = 0; heat > 0.01 && step < 400; step++) move(); place(); heat = 0; }
  else if (heat > 0.01 && !ticking) { ticking = true; requestAnimationFrame(tick); }
}

// The nodes that are drawn, with their states: all; of more than DRAWN this node, the author of the way that is shown,
// neighbours, and then others, those that are up before those that are gone; nodes that are drawn already before new ones.
function chosen(all) {
  if (all.size <= DRAWN) return all;
  const near = new Set([...status.links.map((link) => link.peer), shown?.author, status.node.id]);
  const rank = ([id, state]) => (near.has(id) ? 0 : 1 + ["suspect", "up", "down"].indexOf(state) || 4) + (places.has(id) ? 0 : 0.5);
  return new Map([...all].sort((one, other) => rank(one) - rank(other)).slice(0, DRAWN));
}

// Put the nodes on a circle, neighbours beside each other where that goes: a ring is then drawn as one.
function arrange(links) {
  const order = new Set(), waiting = [...places.keys(), status.node.id];
  while (waiting.length) {
    const id = waiting.pop();
    if (order.has(id)) continue;
    order.add(id);
    for (const [a, b] of links) {
      if (a === id) waiting.push(b);
      if (b === id) waiting.push(a);
    }
  }
  [...order].forEach((id, at) => {
    const place = places.get(id), angle = (2 * Math.PI * at) / order.size - Math.PI / 2;
    if (place) Object.assign(place, { x: 110 * Math.cos(angle), y: 110 * Math.sin(angle) });
  });
}

function tick() {
  for (let step = 0; step < 2; step++) move();
  place();
  ticking = heat > 0.01;
  if (ticking) requestAnimationFrame(tick);
}

function move() {
  const all = [...places.values()];
  for (const one of all) {
    one.vx -= one.x * 0.012;
    one.vy -= one.y * 0.018;
    for (const other of all) {
      if (one === other) continue;
      const dx = one.x - other.x || 0.1, dy = one.y - other.y || 0.1, squared = Math.max(100, dx * dx + dy * dy);
      one.vx += (2600 * dx) / (squared * Math.sqrt(squared)) * 6;
      one.vy += (2600 * dy) / (squared * Math.sqrt(squared)) * 6;
    }
  }
  for (const [a, b] of edges) {
    const one = places.get(a), other = places.get(b);
    if (!one || !other) continue;
    const dx = other.x - one.x, dy = other.y - one.y, length = Math.hypot(dx, dy) || 1, pull = (length - 110) * 0.02;
    one.vx += (dx / length) * pull; one.vy += (dy / length) * pull;
    other.vx -= (dx / length) * pull; other.vy -= (dy / length) * pull;
  }
  for (const one of all) {
    one.vx *= 0.75; one.vy *= 0.75;
    one.x += one.vx * heat; one.y += one.vy * heat;
  }
  heat *= 0.985;
}

function paint(states) {
  const lines = edges.map(([a, b, claims]) => drawn("line", { "data-from": a, "data-to": b }, claims < 2 ? "edge claimed" : "edge"));
  const ways = [];
  const steps = new Map((shown?.steps || []).map((step) => [step.id, step]));
  for (const step of steps.values()) {
    if (step.state !== "came" || step.source === null || !places.has(step.source) || !places.has(step.id)) continue;
    const kind = step.repaired ? " repaired" : "";
    ways.push(drawn("line", { "data-from": step.source, "data-to": step.id }, `way${kind}`), drawn("path", { "data-from": step.source, "data-to": step.id }, `head${kind}`));
  }
  const nodes = [...places.keys()].map((id) => {
    const without = shown && steps.get(id)?.state !== "came" ? " without" : "";
    const own = id === status.node.id ? " own" : "";
    const group = drawn("g", { "data-id": id }, `node ${states.get(id)}${own}${without}`);
    const title = drawn("title"), text = drawn("text", { y: 30 });
    title.textContent = `${name(id, labels.get(id))}: ${states.get(id)}`;
    text.textContent = [...(labels.get(id) || short(id))].slice(0, 18).join("");
    group.append(title, drawn("circle", { r: own ? 14 : 12 }), text);
    return group;
  });
  $("graph").replaceChildren(...lines, ...ways, ...nodes);
  place();
}

function place() {
  let left = -190, right = 190, top = -130, bottom = 130; // so that few nodes are not drawn large
  for (const { x, y } of places.values()) {
    left = Math.min(left, x - 70); right = Math.max(right, x + 70);
    top = Math.min(top, y - 30); bottom = Math.max(bottom, y + 50);
  }
  $("graph").setAttribute("viewBox", `${left} ${top} ${right - left} ${bottom - top}`);
  for (const each of $("graph").children) {
    if (each.dataset.id) {
      const { x, y } = places.get(each.dataset.id);
      each.setAttribute("transform", `translate(${x} ${y})`);
      continue;
    }
    const from = places.get(each.dataset.from), to = places.get(each.dataset.to);
    if (!from || !to) continue;
    const dx = to.x - from.x, dy = to.y - from.y, length = Math.hypot(dx, dy) || 1, ux = dx / length, uy = dy / length;
    if (each.tagName === "path") {
      const x = to.x - ux * 16, y = to.y - uy * 16;
      each.setAttribute("d", `M${x} ${y} L${x - ux * 11 - uy * 6} ${y - uy * 11 + ux * 6} L${x - ux * 11 + uy * 6} ${y - uy * 11 - ux * 6} Z`);
      continue;
    }
    const isWay = each.classList.contains("way"), cut = isWay ? 24 : 0;
    each.setAttribute("x1", from.x); each.setAttribute("y1", from.y);
    each.setAttribute("x2", to.x - ux * cut); each.setAttribute("y2", to.y - uy * cut);
  }
}

// ---- begin ----

document.addEventListener("DOMContentLoaded", () => {
  $("send").addEventListener("submit", send);
  $("trace-close").addEventListener("click", closeTrace);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") closeTrace();
    else if (event.key === "/" && document.activeElement !== $("text")) { event.preventDefault(); $("text").focus(); }
  });
  addEventListener("hashchange", () => { token = takeToken(); });
  beginDemo();
  poll();
  pollGraph();
  follow();
});
