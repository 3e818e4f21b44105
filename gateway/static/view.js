// One run on the page. Everything that a model or a tool wrote becomes text, never markup.

const MAX_SHOWN_CHARS = 20_000; // of one observation; the model itself sees far less
const MAX_LINE_CHARS = 88; // of JSON on one line
// Who answered: the badge's words, and what they mean.
const SOURCES = {
  live: ["live", "The API itself answered just now."],
  custom: ["custom", "The tool's own code answered, run in the sandbox just now."],
  replay: ["replay", "A recording answered; the API was not called."],
  remote: ["remote", "Another tool server answered; it does not say how."],
  simulated: ["simulated by a model", "A language model made this up; the API was not called."],
  error: ["error", "Nobody answered."],
};
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== "") made.textContent = text;
  return made;
}

/** An age in its largest whole unit. */
function ago(seconds) {
  const units = [["days", 86400], ["hours", 3600], ["minutes", 60]];
  const [unit, length] = units.find(([, length]) => seconds >= 2 * length) ?? ["seconds", 1];
  return `${Math.round(seconds / length)} ${unit}`;
}

export function duration(seconds) {
  if (seconds < 0.0095) return `${Math.max(seconds * 1000, 0.1).toFixed(1)} ms`;
  if (seconds < 0.9995) return `${(seconds * 1000).toFixed(0)} ms`;
  if (seconds < 99.95) return `${seconds.toFixed(1)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

function clip(text) {
  if (text.length <= MAX_SHOWN_CHARS) return text;
  return `${text.slice(0, MAX_SHOWN_CHARS)}\n… ${text.length - MAX_SHOWN_CHARS} characters more`;
}

export function showProblem({ title, status, message }) {
  const card = element("div", "card failure");
  card.append(element("p", "title", status ? `${title} (${status})` : title || "Error"));
  card.append(element("p", "words", message || "No more is known."));
  $("problem").replaceChildren(card);
}

/** The object a JSON text holds, or null. */
function asObject(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

/** A value as text: a string as it is, anything else as JSON, on one line if it is short. */
function plain(value) {
  if (typeof value === "string") return value;
  const line = JSON.stringify(value, null, 1).replace(/\n\s*/g, " ");
  return line.length <= MAX_LINE_CHARS ? line : JSON.stringify(value, null, 2);
}

function argumentsView(text) {
  const values = asObject(text);
  if (values === null) return element("pre", "raw", clip(text));
  const list = element("dl");
  for (const [name, value] of Object.entries(values)) {
    list.append(element("dt", "", name), element("dd", "", clip(plain(value))));
  }
  return list.childElementCount ? list : element("p", "sr-only", "no arguments");
}

/** ToolBench wraps every answer as {"error", "response"}; shown is the part that says something. */
function observationView(text) {
  const wrapped = asObject(text);
  const isWrapped = wrapped !== null && "error" in wrapped && "response" in wrapped;
  const hasError = isWrapped && Boolean(wrapped.error);
  const shown = isWrapped ? plain(hasError ? wrapped.error : wrapped.response) : text;
  const box = element("pre", hasError ? "observation error" : "observation", clip(shown) || "(empty)");
  box.tabIndex = 0; // so that the keyboard can scroll it
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", "Observation");
  return box;
}

function turnIcon() {
  const icon = document.createElementNS(SVG, "svg");
  icon.setAttribute("viewBox", "0 0 23 15");
  icon.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", "M8 2 4 6l4 4M4 6h10a4 4 0 0 1 0 8h-2");
  icon.append(path);
  return icon;
}

export class RunView {
  constructor(text, { announce }) {
    this.announce = announce;
    this.began = performance.now();
    this.steps = new Map(); // expansion -> its step
    this.nodes = new Map(); // node -> {depth, parent step, latest step}
    this.calls = new Map(); // call -> {block, head, api}
    this.apis = new Map(); // address -> {label, times}
    this.totals = { models: 0, tools: 0, tokens: 0 };
    $("idle").hidden = true;
    document.body.classList.add("has-run");
    $("result").hidden = false;
    $("asked").textContent = text.trim() || "(empty instruction)";
    for (const id of ["steps", "apis", "outcome", "problem"]) $(id).replaceChildren();
    $("retrieval").textContent = "searching…";
    this.clock = setInterval(() => this.showProgress(), 100);
    this.showProgress();
  }

  show(event) {
    const isAtEnd = window.innerHeight + window.scrollY >= document.body.scrollHeight - 60;
    const { kind } = event;
    if (kind === "retrieved") this.retrieved(event);
    else if (kind === "expansion_started") this.stepStarted(event);
    else if (kind === "model_delta") this.replyGrows(event);
    else if (kind === "model_replied") this.replied(event);
    else if (kind === "tool_started") this.callStarted(event);
    else if (kind === "tool_finished") this.callFinished(event);
    else if ("llm_calls" in event) this.ended(event);
    if (isAtEnd && window.scrollY > 0) window.scrollTo({ top: document.body.scrollHeight });
  }

  showProgress() {
    const { models, tools, tokens } = this.totals;
    const seconds = (performance.now() - this.began) / 1000;
    const parts = [count(models, "model call"), count(tools, "tool call"), `${tokens} tokens`];
    $("progress").textContent = `${parts.join(" · ")} · ${seconds.toFixed(1)} s`;
  }

  // Retrieval

  retrieved({ retrieved, functions, function_apis: addresses, latency_s: latency }) {
    const hits = retrieved.length
      ? retrieved
      : Object.values(addresses).map((api) => ({ api, score: null, score_parts: {} }));
    $("retrieval").textContent = `${hits.length} in ${duration(latency)}`;
    const best = Math.max(...hits.map((hit) => hit.score ?? 0), 0);
    for (const hit of hits) $("apis").append(this.apiView(hit, best));
    if (!hits.length) $("apis").append(element("li", "api", "Nothing in the catalogue fits."));
    this.announce(`Retrieved ${count(hits.length, "API")} of ${functions.length} functions.`);
  }

  apiView({ api, score, score_parts: parts }, best) {
    const item = element("li", "api");
    const row = element("div", "row");
    row.append(element("span", "name", api.api));
    if (score !== null) row.append(element("span", "score", score.toFixed(3)));
    const bar = element("div", "bar");
    const fill = element("span");
    fill.style.setProperty("--share", best > 0 && score > 0 ? String(score / best) : "0");
    bar.append(fill);
    const where = element("div", "where");
    where.append(element("span", "", `${api.tool} · ${api.category}`));
    const channels = Object.entries(parts ?? {}).map(([name, part]) => `${name} ${part.toFixed(2)}`);
    const calls = element("span", "calls");
    where.append(calls);
    item.append(row, ...(score === null ? [] : [bar]), where);
    if (channels.length) item.append(element("div", "parts", channels.join("  ")));
    this.apis.set(`${api.category}/${api.tool}/${api.api}`, { label: calls, times: 0 });
    return item;
  }

  // Steps

  stepStarted({ node_id: node, expansion, base_node_id: base }) {
    const known = this.nodes.get(node);
    const place = known ?? this.newPlace(base);
    if (known) this.goBack(place, `Going back to ${this.nameOf(place)} to try another way`);
    else if (base === null && expansion > 1) this.goBack(place, "Starting over with a new chain");
    const item = element("li", "step busy");
    const body = element("div", "body");
    const marker = element("span", "marker", String(expansion));
    const text = element("div", "text pending", "thinking…");
    const latency = element("span", "latency");
    const thought = element("div", "thought");
    thought.append(text, latency);
    body.append(marker, thought);
    item.append(body);
    item.style.setProperty("--depth", String(place.depth));
    if (place.depth > 0) item.style.setProperty("--is-below", "1");
    const step = { number: expansion, item, body, text, latency, parent: place.parent, place, wrote: "" };
    place.latest = step;
    this.nodes.set(node, place);
    this.steps.set(expansion, step);
    this.last = step;
    $("steps").append(item);
  }

  newPlace(base) {
    const above = base === null ? undefined : this.nodes.get(base);
    return { depth: above ? above.depth + 1 : 0, parent: above?.latest ?? null, latest: null };
  }

  nameOf(place) {
    return place.parent ? `step ${place.parent.number}` : "the start";
  }

  goBack(place, text) {
    for (const step of this.steps.values()) {
      if (this.isBelow(step, place)) step.item.classList.add("abandoned");
    }
    const turn = element("li", "turn");
    const words = element("div");
    words.append(turnIcon(), element("span", "", text));
    turn.append(words);
    turn.style.setProperty("--depth", String(place.depth));
    $("steps").append(turn);
    this.announce(`${text}.`);
  }

  /** Whether a step was made at this place or further down; a new chain leaves everything behind. */
  isBelow(step, place) {
    if (place.latest === null) return true;
    for (let at = step; at; at = at.parent) if (at.place === place) return true;
    return false;
  }

  replyGrows({ expansion, text }) {
    const step = this.steps.get(expansion);
    if (!step) return;
    step.wrote = clip(step.wrote + text);
    step.text.className = "text writing";
    step.text.textContent = step.wrote;
  }

  replied({ expansion, message, usage, latency_s: latency }) {
    this.totals.models += 1;
    this.totals.tokens += usage.prompt_tokens + usage.completion_tokens;
    const step = this.steps.get(expansion);
    if (!step) return;
    const thought = (message.content ?? "").trim();
    const calls = message.tool_calls ?? [];
    step.text.className = thought ? "text" : "text pending";
    step.text.textContent = clip(thought) || (calls.length ? "(no thought written)" : "(empty reply)");
    step.latency.textContent = `model ${duration(latency)}`;
    if (!calls.length) step.item.classList.remove("busy");
    this.showProgress();
  }

  callStarted({ expansion, call_id: call, function: name, arguments: text, api }) {
    const step = this.steps.get(expansion);
    if (!step) return;
    if (name === "Finish") {
      this.calls.set(call, { step, isFinish: true });
      return;
    }
    this.totals.tools += 1;
    const block = element("div", "call");
    const head = element("div", "head");
    head.append(element("span", "name", api ? api.api : name));
    head.append(element("span", "of", api ? `${api.tool} · ${api.category}` : "no such function"));
    const end = element("span", "end");
    end.append(element("span", "latency", "calling…"));
    head.append(end);
    block.append(head, argumentsView(text));
    step.body.append(block);
    this.calls.set(call, { step, block, end });
    this.countCall(api);
    this.announce(`Step ${step.number} calls ${api ? api.api : name}.`);
  }

  countCall(api) {
    const entry = api && this.apis.get(`${api.category}/${api.tool}/${api.api}`);
    if (!entry) return;
    entry.times += 1;
    entry.label.textContent = entry.times === 1 ? "called" : `called ${entry.times}×`;
  }

  callFinished({ call_id: id, observation, status, source, latency_s: latency, age_s: age }) {
    const call = this.calls.get(id);
    if (!call) return;
    const { item, body } = call.step;
    item.classList.remove("busy");
    if (call.isFinish) {
      if (status === "finished" || status === "gave_up") item.classList.add("leaf");
      body.append(this.finishView(status, observation, item));
      return;
    }
    const isGood = status === "ok";
    if (!isGood) item.classList.add("failed");
    const badges = isGood ? [] : [element("span", "badge failure", status.replaceAll("_", " "))];
    if (source && !(source === "error" && !isGood)) badges.push(this.sourceView(source));
    if (age != null) badges.push(element("span", "age", `recorded ${ago(age)} ago`));
    call.end.replaceChildren(...badges, element("span", "latency", duration(latency)));
    if (source === "simulated") {
      call.block.classList.add("simulated");
      call.block.append(element("p", "caution", SOURCES.simulated[1]));
    }
    call.block.append(observationView(observation));
  }

  sourceView(source) {
    const [words, meaning] = Object.hasOwn(SOURCES, source) ? SOURCES[source] : [source, ""];
    const badge = element("span", meaning ? `badge ${source}` : "badge", words);
    badge.title = meaning;
    return badge;
  }

  finishView(status, observation, item) {
    if (status === "finished") return element("p", "verdict answered", "Gives the answer");
    item.classList.add("failed");
    if (status === "gave_up") return element("p", "verdict gave-up", "Gives up on this path");
    return observationView(observation);
  }

  // Endings

  ended(event) {
    const { kind, problem } = event;
    this.settle();
    if (kind === "answered") this.answered(event);
    else if (kind === "failed") this.failed({ ...problem, message: problem?.detail ?? event.reason });
    else this.unanswered(event);
    $("outcome").lastElementChild?.append(this.totalsView(event));
  }

  answered({ answer }) {
    for (let at = this.last; at; at = at.parent) at.item.classList.add("solution");
    const text = answer || "(an empty answer)";
    const card = element("div", "card answer");
    const title = element("p", "title");
    const copy = element("button", "", "Copy");
    copy.type = "button";
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    });
    title.append(element("span", "", "Answer"), copy);
    card.append(title, element("p", "words", text));
    $("outcome").replaceChildren(card);
    this.announce(`Answer: ${text}`);
  }

  unanswered({ kind, reason }) {
    const titles = { gave_up: "The model gave up", exhausted: "No answer", cancelled: "Cancelled" };
    const card = element("div", "card none");
    card.append(element("p", "title", titles[kind] ?? "No answer"));
    card.append(element("p", "words", reason || "The search ended without an answer."));
    $("outcome").replaceChildren(card);
    this.announce("The run ended without an answer.");
  }

  totalsView({ llm_calls: models, tool_calls: tools, usage, seconds }) {
    const row = element("div", "totals");
    const tokens = usage.prompt_tokens + usage.completion_tokens;
    const values = [
      [models, models === 1 ? "model call" : "model calls"],
      [tools, tools === 1 ? "tool call" : "tool calls"],
      [tokens.toLocaleString("en"), "tokens"],
      [duration(seconds), ""],
    ];
    for (const [value, noun] of values) {
      const entry = element("span");
      entry.append(element("b", "", String(value)), document.createTextNode(noun && ` ${noun}`));
      row.append(entry);
    }
    return row;
  }

  stopped() {
    this.settle();
    const card = element("div", "card none");
    card.append(element("p", "title", "Stopped"));
    card.append(element("p", "words", "You stopped this run. The gateway has been told to cancel it."));
    $("outcome").replaceChildren(card);
    this.announce("Stopped.");
  }

  failed(problem) {
    this.settle();
    if (!this.steps.size) $("result").hidden = true;
    showProblem(problem);
    if (this.steps.size) $("outcome").replaceChildren(...$("problem").children);
  }

  /** Nothing moves any more. */
  settle() {
    clearInterval(this.clock);
    $("progress").textContent = "";
    if ($("retrieval").textContent === "searching…") $("retrieval").textContent = "";
    for (const step of this.steps.values()) {
      if (step.item.classList.contains("busy") && step.text.matches(".pending, .writing")) {
        step.text.className = "text pending";
        step.text.textContent = step.wrote || "(no reply)";
      }
      step.item.classList.remove("busy");
    }
  }
}
