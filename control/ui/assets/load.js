// Parts that take longer than a page may: `<div data-load="/ui/…">` with a link to the same inside, for those without
// scripts. The answer is HTML of this server, put in place of what was there; it carries no scripts.
import { tellTimes } from "./time.js";

// A form was sent: the page is on its way to the answer, and a part that is refused meanwhile must not lead elsewhere.
let leaving = false;
window.addEventListener("submit", (event) => {
  if (!event.defaultPrevented) leaving = true;
});

/**
 * Fetches one part. Answers its HTML, or throws with what to say. Without a session a page that only shows something goes to
 * the login page; one that sends what somebody typed stays where it is, for its form keeps the text over a login.
 */
export async function fetchPart(address, options = {}) {
  const headers = { "tidegate-fragment": "1", ...options.headers };
  const response = await fetch(address, { ...options, headers, credentials: "same-origin", redirect: "error" });
  if (response.status === 401) {
    const shows = (options.method ?? "GET") === "GET";
    if (shows && !leaving) location.assign("/ui/login?next=" + encodeURIComponent(location.pathname + location.search));
    throw new Error("signed out");
  }
  const text = await response.text();
  if (!(response.headers.get("content-type") || "").startsWith("text/html")) throw new Error("no part of a page");
  return text;
}

/** Puts a part into its place. */
export function place(element, html) {
  element.innerHTML = html;
  element.removeAttribute("aria-busy");
  tellTimes(element);
  element.dispatchEvent(new CustomEvent("tidegate:loaded", { bubbles: true }));
}

async function load(element) {
  element.setAttribute("aria-busy", "true");
  try {
    place(element, await fetchPart(element.dataset.load));
  } catch {
    element.removeAttribute("aria-busy");
  }
}

/** Loads every part below `root`, one after another: the server has others to serve. */
export async function loadParts(root) {
  for (const element of root.querySelectorAll("[data-load]")) await load(element);
}
