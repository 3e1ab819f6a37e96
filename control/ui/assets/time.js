// Adds "3 min ago" to <time> elements, whose own text is absolute and stays in the title. Never changes a width that
// was laid out: the relative text takes the place of the absolute one before the page is shown, and lives on there.
const STEPS = [
  [60, "second", 1],
  [3600, "minute", 60],
  [86400, "hour", 3600],
  [86400 * 30, "day", 86400],
  [86400 * 365, "month", 86400 * 30],
  [Infinity, "year", 86400 * 365],
];
const words = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });

function relative(at, now) {
  const seconds = Math.round((at - now) / 1000);
  const [, unit, size] = STEPS.find(([most]) => Math.abs(seconds) < most);
  return words.format(Math.trunc(seconds / size), unit);
}

function tell(element, now) {
  const at = Date.parse(element.dateTime);
  if (Number.isNaN(at)) return;
  if (!element.title) element.title = element.textContent;
  const ago = relative(at, now);
  element.textContent = element.classList.contains("both") ? `${element.title} · ${ago}` : ago;
}

/** Tells every time below `root`, and keeps them true. `<time class="exact">` is left alone, `both` keeps its own text. */
export function tellTimes(root) {
  const now = Date.now();
  for (const element of root.querySelectorAll("time:not(.exact)")) tell(element, now);
}

setInterval(() => {
  if (!document.hidden) tellTimes(document);
}, 30000);
