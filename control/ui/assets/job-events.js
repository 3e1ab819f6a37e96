// Follows a job: `<div data-stream="/ui/…" data-rows="/ui/…">` around a table whose rows have `data-key`. The stream says
// that something is new; what is shown are the server's own rows, put above those that are there. Nothing else moves:
// a row that is shown stays where it is, and while somebody works in the table it waits.
import { fetchPart } from "./load.js";
import { tellTimes } from "./time.js";

const MOST_ROWS = 500;
const PAUSE_MS = 500;

for (const box of document.querySelectorAll("[data-stream]")) follow(box);

function follow(box) {
  const body = box.querySelector("tbody");
  const said = document.getElementById(box.dataset.said);
  const empty = document.getElementById(box.dataset.empty);
  let source = null;
  let last = null;
  let timer = null;
  let busy = false;

  const say = (text) => {
    if (said && said.textContent !== text) said.textContent = text;
  };

  const listen = () => {
    const address = new URL(box.dataset.stream, location.href);
    if (last !== null) address.searchParams.set("after", last);
    source = new EventSource(address);
    source.addEventListener("open", () => say("Live: new events appear at the top."));
    source.addEventListener("network-event", (event) => {
      if (event.lastEventId) last = event.lastEventId;
      soon();
    });
    source.addEventListener("error", () => {
      // Closed means that it was refused: signed out, or too many pages that follow something.
      const over = source.readyState === EventSource.CLOSED;
      say(over ? "Not live any more. Load the page again to follow the job." : "The connection is lost; trying again.");
    });
  };

  const soon = () => {
    timer ??= setTimeout(refresh, PAUSE_MS);
  };

  const refresh = async () => {
    timer = null;
    const inUse = body.contains(document.activeElement) || !getSelection().isCollapsed;
    if (busy || inUse) return soon();
    busy = true;
    try {
      merge(await fetchPart(box.dataset.rows));
    } catch {
      say("New events could not be loaded; trying again with the next one.");
    }
    busy = false;
  };

  const merge = (html) => {
    const holder = document.createElement("template");
    holder.innerHTML = html;
    const rows = [...holder.content.querySelectorAll("tr[data-key]")];
    const known = new Map([...body.rows].map((row) => [row.dataset.key, row]));
    const anchor = rows.find((row) => known.has(row.dataset.key));
    // More came at once than a page holds: what is between is on the next pages.
    if (!anchor) body.replaceChildren();
    let before = body.firstElementChild;
    for (const row of rows) {
      const shown = known.get(row.dataset.key);
      if (shown && shown.isConnected) {
        before = shown.nextElementSibling;
        continue;
      }
      body.insertBefore(row, before);
      tellTimes(row);
    }
    while (body.rows.length > MOST_ROWS) body.lastElementChild.remove();
    if (empty && body.rows.length) {
      empty.hidden = true;
      box.hidden = false;
    }
  };

  // A page that nobody sees holds no connection: browsers allow six to one server.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      source?.close();
      source = null;
    } else if (!source) {
      listen();
      soon();
    }
  });
  addEventListener("pagehide", () => source?.close());
  listen();
}
