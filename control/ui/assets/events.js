// Follows network events on their page: new rows above the others, as many as fit, as the server writes them. Nothing
// moves under who reads: while the pointer or the focus is in the table, or the page is scrolled, new events wait behind
// a button.
import { fetchPart } from "./load.js";
import { tellTimes } from "./time.js";

const MOST = 200;
const PAUSE_MS = 300;
const table = document.getElementById("events");
const button = document.getElementById("tail");
const said = document.getElementById("tail-said");

if (table && button && table.dataset.stream) begin();

function begin() {
  const body = table.tBodies[0];
  const box = document.getElementById("events-box");
  let source = null;
  let waiting = 0;
  let last = "";
  let timer = null;
  let busy = false;
  button.hidden = false;

  const quiet = () => window.scrollY < 80 && !box.matches(":hover") && !box.contains(document.activeElement);

  function tell(text) {
    said.hidden = text === "";
    said.textContent = text;
  }

  // Those that were there stay where they are; what is new comes above them.
  function put(html) {
    const holder = document.createElement("template");
    holder.innerHTML = html;
    const rows = [...holder.content.querySelectorAll("tr[data-key]")];
    const known = new Set([...body.rows].map((row) => row.dataset.key));
    const fresh = rows.filter((row) => !known.has(row.dataset.key));
    // More came at once than a page holds: what is between is on the next pages.
    if (rows.length && fresh.length === rows.length) body.replaceChildren();
    for (const row of fresh) row.classList.add("fresh");
    body.prepend(...fresh);
    while (body.rows.length > MOST) body.rows[body.rows.length - 1].remove();
    if (!body.rows.length) return;
    box.hidden = false;
    document.querySelector(".empty")?.remove();
    tellTimes(body);
  }

  const soon = () => {
    timer ??= setTimeout(show, PAUSE_MS);
  };

  async function show() {
    timer = null;
    if (busy) return soon();
    busy = true;
    const taken = waiting;
    try {
      put(await fetchPart(table.dataset.rows));
      waiting -= taken;
      if (source) tell("Following. New events appear above.");
    } catch {
      tell("New events could not be loaded; trying again with the next one.");
    }
    busy = false;
  }

  function take(message) {
    last = message.lastEventId;
    waiting += 1;
    if (quiet()) return soon();
    said.hidden = false;
    const more = document.createElement("button");
    more.type = "button";
    more.textContent = `Show ${Math.min(waiting, MOST)}${waiting >= MOST ? " or more" : ""} new`;
    more.addEventListener("click", show);
    said.replaceChildren(more);
  }

  function start() {
    const from = new URL(table.dataset.stream, location.href);
    if (last !== "") from.searchParams.set("after", last);
    source = new EventSource(from);
    source.addEventListener("network-event", take);
    source.onopen = () => tell("Following. New events appear above.");
    source.onerror = () => {
      const over = source.readyState === EventSource.CLOSED;
      tell(over ? "The stream ended. Follow again, or sign in again." : "The connection was lost; trying again.");
      if (over) stop(false);
    };
    button.textContent = "Pause";
    button.setAttribute("aria-pressed", "true");
    tell("Following. New events appear above.");
  }

  function stop(quietly) {
    source?.close();
    source = null;
    button.textContent = "Follow live";
    button.setAttribute("aria-pressed", "false");
    if (!quietly) return;
    const wait = waiting === 1 ? "1 new event waits" : `${waiting} new events wait`;
    tell(waiting ? `Paused; ${wait}.` : "Paused.");
  }

  button.addEventListener("click", () => (source ? stop(true) : start()));
  addEventListener("pagehide", () => stop(true));
}
