// One run on the page.
import {
  ago,
  approvalView,
  argumentsView,
  clip,
  count,
  deliberationView,
  duration,
  element,
  observationView,
  turnIcon,
} from "./parts.js";

// Who answered: the badge's words, and what they mean.
const SOURCES = {
  live: ["live", "The API itself answered just now."],
  custom: ["custom", "The tool's own code answered, run in the sandbox just now."],
  replay: ["replay", "A recording answered; the API was not called."],
  remote: ["remote", "Another tool server answered; it does not say how."],
  simulated: ["simulated by a model", "A language model made this up; the API was not called."],
  reused: ["reused", "The same call was made in another branch; it was not made again."],
  error: ["error", "Nobody answered."],
};
const $ = (id) => document.getElementById(id);

export function showProblem({ title, status, message }) {
  const card = element("div", "card failure");
  card.append(element("p", "title", status ? `${title} (${status})` : title || "Error"));
  card.append(element("p", "words", message || "No more is known."));
  $("problem").replaceChildren(card);
}

export class RunView {
  constructor(text, { announce, decide }) {
    this.announce = announce;
    this.decide = decide;
    this.position = null; // while the run waits for its turn
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
    this.position = kind === "queued" ? event.position : null;
    if (kind === "queued") this.queued(event);
    else if (kind === "retrieved") this.retrieved(event);
    else if (kind === "expansion_started") this.stepStarted(event);
    else if (kind === "model_delta") this.replyGrows(event);
    else if (kind === "model_replied") this.replied(event);
    else if (kind === "deliberated") this.deliberated(event);
    else if (kind === "tool_started") this.callStarted(event);
    else if (kind === "approval_asked") this.approvalAsked(event);
    else if (kind === "tool_finished") this.callFinished(event);
    else if ("llm_calls" in event) this.ended(event);
    if (isAtEnd && window.scrollY > 0) window.scrollTo({ top: document.body.scrollHeight });
  }

  showProgress() {
    const { models, tools, tokens } = this.totals;
    const seconds = (performance.now() - this.began) / 1000;
    const parts = this.position
      ? [`waiting, position ${this.position}`]
      : [count(models, "model call"), count(tools, "tool call"), `${tokens} tokens`];
    $("progress").textContent = `${parts.join(" · ")} · ${seconds.toFixed(1)} s`;
  }

  queued({ position }) {
    $("retrieval").textContent = "waiting…";
    this.showProgress();
    this.announce(`Waiting, position ${position}.`);
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

  deliberated(event) {
    const { node_id: node, usage } = event;
    this.totals.models += 1;
    this.totals.tokens += usage.prompt_tokens + usage.completion_tokens;
    const item = deliberationView(event);
    item.style.setProperty("--depth", String(this.nodes.get(node)?.depth ?? 0));
    $("steps").append(item);
    this.showProgress();
  }

  callStarted(event) {
    const { expansion, call_id: call, function: name, arguments: text, api } = event;
    const step = this.steps.get(expansion);
    if (!step) return;
    if (name === "Finish") {
      this.calls.set(call, { step, isFinish: true });
      return;
    }
    this.totals.tools += 1;
    const block = element("div", "call");
    const head = element("div", "head");
    if (event.compensates != null) head.append(element("span", "badge", "undo"));
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

  approvalAsked(event) {
    const call = this.calls.get(event.call_id);
    if (!call || call.isFinish) return;
    call.approval = approvalView(event, (approve) => this.decide(event.call_id, approve));
    call.end.replaceChildren(element("span", "latency", "waiting for you…"));
    call.block.append(call.approval);
    this.announce(`Step ${call.step.number} needs your approval.`);
  }

  countCall(api) {
    const entry = api && this.apis.get(`${api.category}/${api.tool}/${api.api}`);
    if (!entry) return;
    entry.times += 1;
    entry.label.textContent = entry.times === 1 ? "called" : `called ${entry.times}×`;
  }

  callFinished(event) {
    const { call_id: id, observation, status, source, latency_s: latency, age_s: age } = event;
    const call = this.calls.get(id);
    if (!call) return;
    const { item, body } = call.step;
    item.classList.remove("busy");
    call.approval?.remove();
    if (call.isFinish) {
      if (status === "finished" || status === "gave_up") item.classList.add("leaf");
      body.append(this.finishView(status, observation, item));
      return;
    }
    const isGood = status === "ok";
    if (!isGood) item.classList.add("failed");
    const badges = isGood ? [] : [element("span", "badge failure", status.replaceAll("_", " "))];
    if (source && !(source === "error" && !isGood)) badges.push(this.sourceView(source));
    if (event.reused) badges.push(this.sourceView("reused"));
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
    else if (kind === "exhausted" && event.answer) this.bestEffort(event);
    else if (kind === "failed") this.failed({ ...problem, message: problem?.detail ?? event.reason });
    else this.unanswered(event);
    $("outcome").lastElementChild?.append(this.totalsView(event));
  }

  answered({ answer }) {
    for (let at = this.last; at; at = at.parent) at.item.classList.add("solution");
    const text = answer || "(an empty answer)";
    $("outcome").replaceChildren(this.answerCard("Answer", text));
    this.announce(`Answer: ${text}`);
  }

  bestEffort({ answer, reason, limit }) {
    const card = this.answerCard("Best effort", answer);
    card.classList.add("unfinished");
    const why = `A budget ended the search (${reason || limit}); this is the best it had.`;
    card.append(element("p", "why", why));
    $("outcome").replaceChildren(card);
    this.announce(`Best effort: ${answer}`);
  }

  answerCard(name, text) {
    const card = element("div", "card answer");
    const title = element("p", "title");
    const copy = element("button", "", "Copy");
    copy.type = "button";
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    });
    title.append(element("span", "", name), copy);
    card.append(title, element("p", "words", text));
    return card;
  }

  unanswered({ kind, reason }) {
    const titles = { gave_up: "The model gave up", exhausted: "No answer", cancelled: "Cancelled" };
    const card = element("div", "card none");
    card.append(element("p", "title", titles[kind] ?? "No answer"));
    card.append(element("p", "words", reason || "The search ended without an answer."));
    $("outcome").replaceChildren(card);
    this.announce("The run ended without an answer.");
  }

  totalsView(event) {
    const { llm_calls: models, tool_calls: tools, usage, seconds } = event;
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
    if (event.is_kept) row.append(element("span", "kept", `kept as ${event.run_id}`));
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
    if (!$("apis").childElementCount) $("retrieval").textContent = "";
    for (const { approval } of this.calls.values()) approval?.remove();
    for (const step of this.steps.values()) {
      if (step.item.classList.contains("busy") && step.text.matches(".pending, .writing")) {
        step.text.className = "text pending";
        step.text.textContent = step.wrote || "(no reply)";
      }
      step.item.classList.remove("busy");
    }
  }
}
