// The effect on recorded jobs: asked for once the page stands, and again when another span is chosen. Without scripts
// the button opens it as a page.
import { fetchPart, place } from "./load.js";

let asked = 0;

async function compare(box) {
  const mine = ++asked;
  const form = document.getElementById(box.dataset.form);
  const body = new URLSearchParams(new FormData(form));
  box.setAttribute("aria-busy", "true");
  try {
    const html = await fetchPart(box.dataset.send, { method: "POST", body });
    if (mine === asked) place(box, html);
  } catch {
    box.removeAttribute("aria-busy");
  }
}

for (const box of document.querySelectorAll("[data-send]")) {
  const form = document.getElementById(box.dataset.form);
  form.querySelector("[name=days]")?.addEventListener("change", () => compare(box));
  form.querySelector("[data-again]")?.setAttribute("hidden", "");
  compare(box);
}
