// The editor: numbers beside the lines, marks under what is wrong, and a check while typing. The form works without it.
import { fetchPart, place } from "./load.js";

const form = document.getElementById("editing");
const area = form.querySelector("#yaml");
const box = document.getElementById("diagnostics");
const WAIT = 250;

// Numbers and marks lie beside and behind the text, and scroll with it.
const frame = area.parentElement;
const gutter = document.createElement("div");
gutter.className = "gutter";
gutter.setAttribute("aria-hidden", "true");
const back = document.createElement("pre");
back.className = "back";
back.setAttribute("aria-hidden", "true");
frame.prepend(gutter, back);
frame.classList.add("live");

function diagnostics() {
  return [...box.querySelectorAll("[data-line]")].map((item) => ({
    line: Number(item.dataset.line),
    column: Number(item.dataset.column),
    length: Number(item.dataset.length),
    severity: item.dataset.severity,
    message: item.textContent,
  }));
}

/** Draws numbers and marks for the text as it is. */
function draw() {
  const found = diagnostics();
  const lines = area.value.split("\n");
  const worst = new Map();
  for (const one of found) if (worst.get(one.line)?.severity !== "error") worst.set(one.line, one);
  gutter.replaceChildren(
    ...lines.map((_, at) => {
      const number = document.createElement("span");
      number.textContent = at + 1;
      const mark = worst.get(at + 1);
      if (mark) {
        number.className = mark.severity;
        number.title = mark.message;
      }
      return number;
    }),
  );
  back.replaceChildren(
    ...lines.flatMap((line, at) => {
      const characters = [...line];
      const mark = worst.get(at + 1);
      if (!mark) return [document.createTextNode(line + "\n")];
      const from = Math.max(mark.column - 1, 0);
      const until = Math.max(from + mark.length, from + 1);
      const marked = document.createElement("mark");
      marked.className = mark.severity;
      marked.textContent = characters.slice(from, until).join("") || " ";
      return [characters.slice(0, from).join(""), marked, characters.slice(until).join("") + "\n"];
    }),
  );
  scroll();
}

function scroll() {
  gutter.scrollTop = area.scrollTop;
  back.scrollTop = area.scrollTop;
  back.scrollLeft = area.scrollLeft;
}

// Only the newest question's answer counts.
let asked = 0;
let timer;
async function check() {
  const mine = ++asked;
  const body = new URLSearchParams({ yaml: area.value });
  try {
    const html = await fetchPart(form.dataset.check, { method: "POST", body });
    if (mine !== asked) return;
    place(box, html);
    draw();
  } catch {
    // The Check button still asks the long way.
  }
}

area.addEventListener("input", () => {
  asked++;
  draw();
  clearTimeout(timer);
  timer = setTimeout(check, WAIT);
});
area.addEventListener("scroll", scroll);

// A message leads to its place in the text.
box.addEventListener("click", (event) => {
  const item = event.target.closest("[data-line]");
  if (!item || !event.target.closest("a")) return;
  event.preventDefault();
  const before = area.value.split("\n").slice(0, Number(item.dataset.line) - 1);
  const start = before.reduce((sum, line) => sum + line.length + 1, 0) + Math.max(Number(item.dataset.column) - 1, 0);
  area.focus();
  area.setSelectionRange(start, start + Number(item.dataset.length));
});

// A local file is read here, never sent by itself.
const file = document.getElementById("file");
if (file) {
  file.closest("[hidden]").hidden = false;
  file.addEventListener("change", async () => {
    if (file.files[0]) document.getElementById(file.dataset.into).value = (await file.files[0].text()).slice(0, 1 << 20);
  });
}

// What was typed is not lost by a slip.
const begun = area.value;
let leaving = false;
form.addEventListener("submit", () => (leaving = true));
addEventListener("pageshow", () => (leaving = false));
addEventListener("beforeunload", (event) => {
  if (!leaving && area.value !== begun) event.preventDefault();
});

draw();
