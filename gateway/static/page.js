// The form, and the stream of one run at a time.
import { RunView, element, showProblem } from "./view.js";

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

const $ = (id) => document.getElementById(id);
const form = $("ask");
const instruction = $("instruction");
let stopRun = null; // set while a run is on its way

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

async function* events(body, signal) {
  const headers = { "Content-Type": "application/json" };
  const request = { method: "POST", headers, body: JSON.stringify(body), signal };
  const response = await fetch("/v1/runs", request);
  if (!response.ok) throw await problemOf(response);
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
  if (stopRun) return;
  const text = instruction.value;
  const topK = $("top-k").valueAsNumber; // NaN becomes null, which the gateway explains
  const controller = new AbortController();
  stopRun = () => controller.abort();
  setRunning(true);
  const view = new RunView(text, { announce });
  try {
    for await (const event of events({ text, top_k: topK, method: $("method").value }, controller.signal)) {
      view.show(event);
    }
  } catch (error) {
    if (controller.signal.aborted) view.stopped();
    else view.failed(problemFrom(error));
  } finally {
    controller.abort(); // whatever went wrong here, the gateway need not go on
    stopRun = null;
    setRunning(false);
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
      if (stopRun) return;
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
$("stop").addEventListener("click", () => stopRun?.());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stopRun?.();
});
addExamples();
loadMethods();
