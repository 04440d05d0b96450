/** The log of one table, live: a plain EventSource, which goes on where it was when the connection breaks. Everything is inserted as text. */

/** How many messages are shown. */
const SHOWN = 50;

const tables = document.getElementById("log-table");
const list = document.getElementById("log");
let source;

/** Begins with all that the table's log holds. */
function follow() {
  source?.close();
  list.replaceChildren();
  source = new EventSource(`/log/${tables.value}?offset=-1&live=sse`);
  source.addEventListener("data", ({ data }) => show(JSON.parse(data)));
}

function show(messages) {
  const items = messages.slice(-SHOWN).map(({ type, slot, reason, bookingId }) => {
    const item = document.createElement("li");
    const about = [slot, reason, bookingId].filter((each) => each !== undefined);
    item.append(type, Object.assign(document.createElement("small"), { className: "quiet", textContent: ` ${about.join(", ")}` }));
    return item;
  });
  // Newest first.
  list.prepend(...items.reverse());
  while (list.childElementCount > SHOWN) list.lastElementChild.remove();
}

/** As many tables as the page shows. */
async function begin() {
  const { tables: known } = await (await fetch("/state")).json();
  tables.replaceChildren(...known.map(({ table }) => new Option(`Table ${table}`, table)));
  tables.addEventListener("change", follow);
  follow();
}

begin();
