// Keys (where nothing is being typed; arrows on the second tab only), copying, and sorting of tables.
(() => {
  const FIELDS = "input, textarea, select, [contenteditable=true], [role=listbox], [role=slider]";
  const typing = (t) => t.closest && t.closest(FIELDS);
  const press = (id, unseen) => {
    const found = document.getElementById(id);
    const button = found && (found.matches("button") ? found : found.querySelector("button"));
    if (button && (unseen || button.offsetParent !== null)) { button.click(); return true; }
    return false;
  };
  const viewer = () => [...document.querySelectorAll(".mv-viewer")].find((v) => v.offsetParent !== null);
  const KEYS = { o: "overlay", g: "outline", "+": "more", "=": "more", "-": "less", "−": "less" };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const tab = event.target.closest && event.target.closest("[role=tab]");
    let done = false;
    if (key === "j") done = press("analysis-next", true);
    else if (key === "k") done = press("analysis-previous", true);
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
  // Gradio names its upload button by other words than stand on it; whoever speaks to the page says what they see.
  const named = () => {
    for (const button of document.querySelectorAll(".upload-container[aria-label]")) button.removeAttribute("aria-label");
  };
  // An error stands above the results, which may be far from the button that was pressed.
  const seen = (changes) => {
    for (const node of changes.flatMap((change) => [...change.addedNodes])) {
      const alert = node.querySelector && (node.matches(".mv-alert") ? node : node.querySelector(".mv-alert"));
      if (alert) alert.scrollIntoView({ block: "nearest" });
    }
  };
  new MutationObserver((changes) => { named(); seen(changes); }).observe(document, { childList: true, subtree: true });
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
