"""How the page looks, and the little that its own script does: keys, copying, sorting. Knows no tab's contents.

Colours are Gradio's own variables, so that light and dark both work; all text has a contrast of 4.5 to 1 or more.
"""

from __future__ import annotations

CSS = """
.gradio-container { max-width: 1400px !important; margin: 0 auto; }
.mv-head h1 { margin: .2rem 0; font-size: 1.5rem; }
.mv-head p { margin: 0; }
.mv-alert, .mv-note { border-left: .3rem solid #b91c1c; padding: .5rem .75rem; margin: .25rem 0; white-space: pre-wrap;
  background: var(--background-fill-secondary); color: var(--body-text-color); overflow-wrap: anywhere; }
.mv-note { border-color: #1d4ed8; }
.mv-text { white-space: pre-wrap; overflow-wrap: anywhere; }
.mv-picture { max-width: 100%; height: auto; background: #fff; }
.mv-downloads a, .mv-copy summary { margin-right: 1rem; }
.mv-download, .mv-copy summary { text-decoration: underline; cursor: pointer; color: var(--body-text-color); }
.mv-copy pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: .5rem; margin: .25rem 0;
  background: var(--background-fill-secondary); color: var(--body-text-color); }
.mv-copy button, .mv-sortable th button { border: 1px solid var(--border-color-primary); border-radius: .25rem;
  padding: .1rem .5rem; background: var(--background-fill-primary); color: var(--body-text-color); cursor: pointer; }
.mv-progress { position: relative; border: 1px solid var(--border-color-primary); border-radius: .25rem;
  overflow: hidden; margin: .25rem 0; background: var(--background-fill-secondary); }
.mv-progress .mv-done { position: absolute; inset: 0 auto 0 0; background: #93c5fd; }
.dark .mv-progress .mv-done { background: #1e3a8a; }
.mv-progress span { position: relative; display: block; padding: .25rem .5rem; color: var(--body-text-color); }
.mv-scroll { overflow-x: auto; max-width: 100%; }
.mv-table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
.mv-table caption { text-align: left; padding: .25rem 0; font-weight: 600; color: var(--body-text-color); }
.mv-table th, .mv-table td { padding: .2rem .6rem; border-bottom: 1px solid var(--border-color-primary);
  text-align: left; vertical-align: top; color: var(--body-text-color); }
.mv-table thead th { background: var(--background-fill-secondary); }
.mv-sortable th[aria-sort=ascending] button::after { content: " ▲"; }
.mv-sortable th[aria-sort=descending] button::after { content: " ▼"; }
.mv-facts { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .8rem; margin: 0; }
.mv-facts dt { font-weight: 600; } .mv-facts dd { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap; }
.mv-right, .mv-wrong { font-weight: 600; }
#mv-keys { max-width: 26rem; padding: 1rem; background: var(--background-fill-primary); color: var(--body-text-color); }
#mv-keys dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; }
#mv-keys dd { margin: 0; }
@media (max-width: 600px) { .mv-facts { grid-template-columns: 1fr; } }
"""

#: Keys act where nothing is being typed; arrows on the second tab only.
_SCRIPT = r"""
(() => {
  const FIELDS = "input, textarea, select, [contenteditable=true], [role=listbox], [role=slider]";
  const typing = (t) => t.closest && t.closest(FIELDS);
  const press = (id) => {
    const found = document.getElementById(id);
    const button = found && (found.matches("button") ? found : found.querySelector("button"));
    if (button && button.offsetParent !== null) { button.click(); return true; }
    return false;
  };
  const viewer = () => [...document.querySelectorAll(".mv-viewer")].find((v) => v.offsetParent !== null);
  const KEYS = { o: "overlay", g: "outline", "+": "more", "=": "more", "-": "less", "−": "less" };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const tab = event.target.closest && event.target.closest("[role=tab]");
    let done = false;
    if (key === "j") done = press("analysis-next");
    else if (key === "k") done = press("analysis-previous");
    else if (key === "ArrowRight" && !tab) done = press("tokens-next");
    else if (key === "ArrowLeft" && !tab) done = press("tokens-previous");
    else if (key === "?") {
      const help = document.getElementById("mv-keys");
      if (help) { if (help.open) help.close(); else help.showModal(); done = true; }
    } else if (KEYS[key] && viewer()) {
      viewer().dispatchEvent(new CustomEvent("mv-key", { detail: KEYS[key] })); done = true;
    }
    if (done) event.preventDefault();
  });
  const copied = async (text) => {
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
    const area = document.createElement("textarea");
    area.value = text; document.body.appendChild(area); area.select();
    document.execCommand("copy"); area.remove();
  };
  const sort = (button) => {
    const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
    const column = [...head.parentNode.children].indexOf(head);
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentNode.children) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => {
      const cell = row.children[column], exact = cell.dataset.sort;
      const text = exact === undefined ? cell.innerText.trim() : exact, number = parseFloat(text);
      return Number.isNaN(number) ? text : number;
    };
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;  // numbers before words, either way
      const by = typeof x === "number" ? x - y : x.localeCompare(y);
      return up ? by : -by;
    };
    for (const row of [...body.rows].sort(order)) body.appendChild(row);
  };
  document.addEventListener("click", (event) => {
    if (!event.target.closest) return;
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      const back = () => { copy.textContent = "Copy"; };
      copied(copy.dataset.copy).then(() => { copy.textContent = "Copied"; setTimeout(back, 1500); });
    }
    const head = event.target.closest(".mv-sortable thead th button");
    if (head) sort(head);
  });
})();
"""

HEAD = f"<script>{_SCRIPT}</script>"
