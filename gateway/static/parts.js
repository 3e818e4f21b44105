// Pieces of a run on the page. Everything that a model or a tool wrote becomes text, never markup.

const MAX_SHOWN_CHARS = 20_000; // of one observation; the model itself sees far less
const MAX_LINE_CHARS = 88; // of JSON on one line
const MAX_FIRST_CHARS = 160; // of a deliberation that is not unfolded
const SVG = "http://www.w3.org/2000/svg";

export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== "") made.textContent = text;
  return made;
}

/** An age in its largest whole unit. */
export function ago(seconds) {
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

export function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

export function clip(text) {
  if (text.length <= MAX_SHOWN_CHARS) return text;
  return `${text.slice(0, MAX_SHOWN_CHARS)}\n… ${text.length - MAX_SHOWN_CHARS} characters more`;
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

export function argumentsView(text) {
  const values = asObject(text);
  if (values === null) return element("pre", "raw", clip(text));
  const list = element("dl");
  for (const [name, value] of Object.entries(values)) {
    list.append(element("dt", "", name), element("dd", "", clip(plain(value))));
  }
  return list.childElementCount ? list : element("p", "sr-only", "no arguments");
}

/** ToolBench wraps every answer as {"error", "response"}; shown is the part that says something. */
export function observationView(text) {
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

export function turnIcon() {
  const icon = document.createElementNS(SVG, "svg");
  icon.setAttribute("viewBox", "0 0 23 15");
  icon.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", "M8 2 4 6l4 4M4 6h10a4 4 0 0 1 0 8h-2");
  icon.append(path);
  return icon;
}

/** What the model said about the search itself, folded to its first words. */
export function deliberationView({ purpose, text, latency_s: latency, is_readable: isReadable }) {
  const item = element("li", "deliberation");
  const folded = element("details");
  const summary = element("summary");
  const line = text.replace(/\s+/g, " ").trim();
  const first = line.length > MAX_FIRST_CHARS ? `${line.slice(0, MAX_FIRST_CHARS)}…` : line;
  summary.append(element("span", "purpose", purpose), element("span", "first", first || "(empty)"));
  if (isReadable === false) summary.append(element("span", "badge failure", "no verdict"));
  summary.append(element("span", "latency", `model ${duration(latency)}`));
  folded.append(summary, element("pre", "", clip(text) || "(empty)"));
  item.append(folded);
  return item;
}

/** Asks whether a call may be made; `decide(approve)` tells the gateway, and throws what it says. */
export function approvalView({ effect, expires_in_s: left }, decide) {
  const box = element("div", "approval");
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Approval");
  const words = `This call changes something (${effect}). Without an answer it is refused in`;
  const text = element("p", "", `${words} ${ago(left)}.`);
  const buttons = [["Approve", "approve", true], ["Refuse", "refuse", false]].map(
    ([name, kind, approve]) => {
      const button = element("button", kind, name);
      button.type = "button";
      button.addEventListener("click", () => settle(name, approve));
      return button;
    },
  );
  async function settle(name, approve) {
    for (const button of buttons) button.disabled = true;
    try {
      await decide(approve);
      text.textContent = approve ? "You approved this call." : "You refused this call.";
      for (const button of buttons) button.remove();
    } catch (error) {
      text.textContent = `${name} failed: ${error.message}`;
      for (const button of buttons) button.disabled = false;
    }
  }
  box.append(text, ...buttons);
  return box;
}
