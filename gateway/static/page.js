// The form, and the stream of one run at a time.
import { element } from "./parts.js";
import { RunView, showProblem } from "./view.js";

const EXAMPLES = [
  "In nautical miles, what is the distance between Dallas and Toronto?",
  "In what time zone does the capital of Belarus lie?",
  "How heavy in pounds is a mole of the compound H2SO4, after you convert it from grams?",
  "When did the film Mad Max come out, and is that number prime?",
  "Find who wrote the book Kidnapped and count the letters in the name.",
];
const METHOD_NAMES = [
  [/^DFS_woFilter_w(\d+)$/, (n) => `DFSDT, ${n} ${n === "1" ? "branch" : "branches"}`],
  [/^CoT@(\d+)$/, (n) => `ReAct, ${n} ${n === "1" ? "chain" : "chains"}`],
];
const MAX_LINE_CHARS = 16_000_000; // a line longer than this is not one of the gateway's
const STOP_MS = 3_000; // for a run that was told to stop to say how it ended

const $ = (id) => document.getElementById(id);
const form = $("ask");
const instruction = $("instruction");
let running = null; // the run that is on its way: its id, once known, and how to leave it

class Problem extends Error {
  constructor({ title, status, detail }) {
    super(detail);
    this.title = title;
    this.status = status;
  }
}

async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    const pieces = (rest + (value ?? "")).split("\n");
    rest = done ? "" : pieces.pop();
    for (const piece of pieces) if (piece.trim()) yield piece;
    if (done) return;
    if (rest.length > MAX_LINE_CHARS) {
      throw new Problem({ title: "Unreadable stream", detail: "A line of the stream is too long." });
    }
  }
}

function parse(line) {
  try {
    return JSON.parse(line);
  } catch {
    throw new Problem({ title: "Unreadable stream", detail: `Not JSON: ${line.slice(0, 200)}` });
  }
}

async function problemOf(response) {
  const text = await response.text();
  try {
    const { title, status, detail } = JSON.parse(text);
    return new Problem({ title, status, detail });
  } catch {
    return new Problem({ title: response.statusText, status: response.status, detail: text.slice(0, 500) });
  }
}

/** Posts JSON, or nothing; throws the problem that the gateway answers with. */
async function post(path, body, signal) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function* events(body, run) {
  const response = await post("/v1/runs", body, run.controller.signal);
  run.id = response.headers.get("X-Run-Id");
  let ended = false;
  for await (const line of lines(response)) {
    const event = parse(line);
    if (event.stream_failure) throw new Problem(event.problem);
    ended = "llm_calls" in event;
    yield event;
  }
  if (!ended) {
    throw new Problem({ title: "The stream broke off", detail: "The gateway closed it without a result." });
  }
}

function problemFrom(error) {
  if (error instanceof Problem) return error;
  if (error instanceof TypeError) {
    return new Problem({
      title: "The gateway cannot be reached",
      detail: `Is it still running? Start it with "toolwright up". (${error.message})`,
    });
  }
  return new Problem({ title: "The page failed", detail: String(error) });
}

async function start() {
  if (running) return;
  const text = instruction.value;
  const topK = $("top-k").valueAsNumber; // NaN becomes null, which the gateway explains
  const run = { id: null, controller: new AbortController(), isStopping: false };
  running = run;
  setRunning(true);
  const decide = (call, approve) => post(`/v1/runs/${run.id}/calls/${call}`, { approve });
  const view = new RunView(text, { announce, decide });
  const body = { text, top_k: topK, method: $("method").value, ask_approval: true };
  try {
    for await (const event of events(body, run)) view.show(event);
  } catch (error) {
    if (run.controller.signal.aborted) view.stopped();
    else view.failed(problemFrom(error));
  } finally {
    run.controller.abort(); // whatever went wrong here, the gateway need not go on
    running = null;
    setRunning(false);
  }
}

/** Cancels the run; asked twice, or where it cannot be cancelled by name, leaves it, which ends it. */
async function stop() {
  const run = running;
  if (!run) return;
  const leave = () => run.controller.abort();
  if (run.isStopping || !run.id) return leave();
  run.isStopping = true;
  try {
    await post(`/v1/runs/${run.id}/cancel`);
    setTimeout(leave, STOP_MS);
  } catch {
    leave();
  }
}

function setRunning(isRunning) {
  const hadFocus = document.activeElement === $("stop") || document.activeElement === $("run");
  $("run").hidden = isRunning;
  $("stop").hidden = !isRunning;
  form.setAttribute("aria-busy", String(isRunning));
  if (hadFocus) $(isRunning ? "stop" : "run").focus();
}

function announce(text) {
  $("announcer").textContent = text;
}

function labelOf(method) {
  for (const [pattern, label] of METHOD_NAMES) {
    const match = pattern.exec(method);
    if (match) return label(match[1]);
  }
  return method;
}

async function loadMethods() {
  try {
    const response = await fetch("/methods");
    if (!response.ok) throw await problemOf(response);
    const { methods } = await response.json();
    const options = methods.map((method) => {
      const option = element("option", "", labelOf(method));
      option.value = method;
      return option;
    });
    if (options.length) $("method").replaceChildren(...options);
  } catch (error) {
    showProblem(problemFrom(error));
  }
}

function addExamples() {
  for (const text of EXAMPLES) {
    const button = element("button", "", text);
    button.type = "button";
    button.addEventListener("click", () => {
      if (running) return;
      instruction.value = text;
      start();
    });
    const item = element("li");
    item.append(button);
    $("examples").append(item);
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
instruction.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  start();
});
$("stop").addEventListener("click", stop);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
});
addExamples();
loadMethods();
